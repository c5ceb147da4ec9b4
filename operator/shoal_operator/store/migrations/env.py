"""Alembic's entry point: migrate over the connection that ``database.migrate`` put into the attributes."""

from alembic import context

from shoal_operator.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter most of a table in place
)
with context.begin_transaction():
    context.run_migrations()
