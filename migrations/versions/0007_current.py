"""How current each partition is.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Not known until a projector looks."""
    op.execute("ALTER TABLE mesh.checkpoints ADD COLUMN current_at TIMESTAMP WITH TIME ZONE")
    op.execute(
        "COMMENT ON COLUMN mesh.checkpoints.current_at IS "
        "'all that was in the log then is applied; null: not known'"
    )


def downgrade() -> None:
    """Forget it."""
    op.execute("ALTER TABLE mesh.checkpoints DROP COLUMN current_at")
