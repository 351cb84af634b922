"""Runs the revisions on the connection that `amends.schema.migrate` hands over; forward only."""

from alembic import context

from amends.errors import DowngradeRefused, StartupError

connection = context.config.attributes.get("connection")
if connection is None:
    raise StartupError(
        "The schema is migrated by `amends migrate`, which finds the database and installs the views too"
    )
context.configure(connection=connection, version_table_schema="amends", transactional_ddl=True)
at = context.get_context().get_current_revision()
ahead = {each.revision for each in context.script.iterate_revisions("heads", at, inclusive=True)} if at else set()
wanted = context.get_revision_argument()
if at and wanted not in ahead:
    raise DowngradeRefused(
        f"The schema is at revision {at} and is not taken back to {wanted or 'nothing'}: what was written since would "
        "be lost. Restore a copy from before the migration instead, or deploy code that goes with it"
    )
with context.begin_transaction():
    context.run_migrations()
