"""Who deployed.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of deploys before this it is not known."""
    op.execute("ALTER TABLE mesh.deploys ADD COLUMN started_by TEXT")
    op.execute("COMMENT ON COLUMN mesh.deploys.started_by IS 'user@host; null: not known'")


def downgrade() -> None:
    """Forget it."""
    op.execute("ALTER TABLE mesh.deploys DROP COLUMN started_by")
