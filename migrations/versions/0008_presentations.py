"""What is said of a version beside what it is built from; deploys that wait.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing is said yet: the next deploy says it."""
    op.execute("ALTER TABLE mesh.versions ADD COLUMN presentation JSONB DEFAULT '{}' NOT NULL")
    op.execute(
        "COMMENT ON COLUMN mesh.versions.presentation IS "
        "'a view: doc, columns and cache of its declaration, which change without a build'"
    )
    op.execute(
        "COMMENT ON COLUMN mesh.deploys.state IS 'waiting, running, done, refused, failed or interrupted'"
    )


def downgrade() -> None:
    """Forget it, and what waits."""
    op.execute("DELETE FROM mesh.deploys WHERE state = 'waiting'")
    op.execute("COMMENT ON COLUMN mesh.deploys.state IS 'running, done, refused, failed or interrupted'")
    op.execute("ALTER TABLE mesh.versions DROP COLUMN presentation")
