"""Numbers of versions, kept beyond what is pruned.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Begin with the numbers of the versions that are there."""
    op.execute(
        "CREATE TABLE mesh.version_numbers (stem TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (stem))"
    )
    op.execute("COMMENT ON COLUMN mesh.version_numbers.stem IS 'the physical table without its number'")
    op.execute(
        "COMMENT ON TABLE mesh.version_numbers IS "
        "'The last number given; none is given twice, since cursors and tables that are still read carry it.'"
    )
    op.execute(
        "INSERT INTO mesh.version_numbers SELECT regexp_replace(relation, '__[0-9]+$', ''), max(number) "
        "FROM mesh.versions GROUP BY 1"
    )


def downgrade() -> None:
    """The numbers of what was pruned are forgotten."""
    op.execute("DROP TABLE mesh.version_numbers")
