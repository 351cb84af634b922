"""What is parked is told by its keys, and what a person should see to is in the projections' log."""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run the SQL file of the same name, by the driver itself: its percent signs are SQL's own."""
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(Path(__file__).with_suffix(".sql").read_text())
