"""Declared grants, and the parts of a key's text.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing is granted until the next deploy says it."""
    op.execute("CREATE TABLE mesh.declared_grants (data JSONB PRIMARY KEY)")
    op.execute(
        "COMMENT ON TABLE mesh.declared_grants IS "
        "'What the catalog grants, as it was last deployed; grants made centrally are folded from mesh.events.'"
    )
    op.execute("""
        CREATE FUNCTION mesh.part_of_key(key TEXT, number INT, count INT) RETURNS TEXT
        LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
        DECLARE
            parts TEXT[] := string_to_array(key, ',');
            part TEXT := parts[number];
        BEGIN
            IF cardinality(parts) <> count THEN
                RETURN NULL;
            ELSIF strpos(part, '%') = 0 THEN
                RETURN part;
            END IF;
            RETURN convert_from(string_agg(
                CASE WHEN piece[1] LIKE '\\%__' THEN decode(substr(piece[1], 2), 'hex')
                     ELSE convert_to(piece[1], 'UTF8') END, ''::BYTEA ORDER BY place), 'UTF8')
            FROM regexp_matches(part, '%[0-9A-Fa-f]{2}|[^%]+|%', 'g') WITH ORDINALITY AS found(piece, place);
        EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
            RETURN NULL;
        END $$
    """)
    op.execute(
        "COMMENT ON FUNCTION mesh.part_of_key IS "
        "'A part of a composite key''s canonical text, which has so many; null where it has not'"
    )


def downgrade() -> None:
    """Forget it."""
    op.execute("DROP FUNCTION mesh.part_of_key")
    op.execute("DROP TABLE mesh.declared_grants")
