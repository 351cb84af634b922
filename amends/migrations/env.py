"""Runs the revisions on the connection that `amends.schema.migrate` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table_schema="amends",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
