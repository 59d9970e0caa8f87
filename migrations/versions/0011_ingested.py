"""Events that came by HTTP, so that one that is sent again is published once.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing has come yet."""
    op.execute("""
        CREATE TABLE mesh.ingested (
            digest UUID PRIMARY KEY,
            claimed_at TIMESTAMPTZ NOT NULL,
            topic TEXT,
            "partition" INTEGER,
            "offset" BIGINT
        )
    """)
    op.execute("CREATE INDEX ingested_by_age ON mesh.ingested (claimed_at)")
    op.execute(
        "COMMENT ON TABLE mesh.ingested IS "
        "'Events of the last while that came by HTTP: a digest of source and id, and where the log has them.'"
    )
    op.execute("COMMENT ON COLUMN mesh.ingested.topic IS 'null: not acknowledged yet'")


def downgrade() -> None:
    """Forget it."""
    op.execute("DROP TABLE mesh.ingested")
