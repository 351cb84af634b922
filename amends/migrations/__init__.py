"""The engine's schema, as Alembic revisions."""
