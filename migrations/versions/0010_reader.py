"""The role that reads run as, and row-level security for what has row rules.

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ROLES = """
    DO $$
    DECLARE
        wanted TEXT;
    BEGIN
        FOREACH wanted IN ARRAY ARRAY['mesh_reader', 'mesh_ruled'] LOOP
            BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                    EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
                END IF;
            EXCEPTION  -- roles are those of all databases, so another's migration may have made it just now
                WHEN duplicate_object OR unique_violation THEN NULL;
            END;
            IF NOT pg_has_role(current_user, wanted, 'SET') THEN
                EXECUTE format('GRANT %I TO current_user WITH SET TRUE, INHERIT FALSE', wanted);
            END IF;
        END LOOP;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'The login % may not make the roles that reads run as.', current_user
            USING HINT = 'As a superuser: CREATE ROLE mesh_reader NOLOGIN; CREATE ROLE mesh_ruled NOLOGIN; '
                || format('GRANT mesh_reader, mesh_ruled TO %I WITH SET TRUE, INHERIT FALSE;', current_user);
    END $$
"""
READ = (
    "generation", "versions", "checkpoints", "fan_out", "held_events", "event_index", "declared_grants", "deploys", "builds",
    "alembic_version",
)  # fmt: skip
"""Control tables that answers are made of."""
ROW_SEEN = """
    CREATE FUNCTION mesh.row_seen(relation TEXT, seen JSONB) RETURNS BOOLEAN LANGUAGE sql STABLE PARALLEL SAFE AS $$
        SELECT coalesce((
            SELECT bool_and(EXISTS (
                SELECT FROM jsonb_array_elements(alternatives) AS conditions
                WHERE NOT EXISTS (
                    SELECT FROM jsonb_array_elements(conditions) AS condition
                    WHERE NOT (condition -> 1) @> jsonb_build_array(seen -> (condition ->> 0)))))
            FROM jsonb_array_elements(nullif(current_setting('mesh.rows', true), '')::jsonb -> relation) AS alternatives
        ), false)
    $$
"""
SECURE = """
    CREATE FUNCTION mesh.secure(relation TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('ALTER TABLE data.%I ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('CREATE POLICY ruled ON data.%1$I FOR SELECT TO mesh_ruled '
                       'USING (mesh.row_seen(%1$L, to_jsonb(%1$I.*)))', relation);
        EXECUTE format('GRANT SELECT ON data.%I TO mesh_ruled', relation);
    END $$
"""
PUBLISH = """
    CREATE FUNCTION mesh.publish(relation TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
    DECLARE
        ruled TEXT := 'ruled_' || relation;
    BEGIN
        IF to_regclass(format('read.%I', ruled)) IS NULL THEN
            EXECUTE format('CREATE VIEW read.%I AS %s', ruled, pg_get_viewdef(format('read.%I', relation)::regclass));
            EXECUTE format('GRANT SELECT ON read.%I TO mesh_reader', ruled);
            EXECUTE format('ALTER VIEW read.%I OWNER TO mesh_ruled', ruled);
        END IF;
        EXECUTE format('GRANT SELECT ON read.%I TO mesh_reader', relation);
    END $$
"""
COMMENTS = {
    "row_seen(TEXT, JSONB)": "Whether mesh.rows, of the transaction, has conditions that a row of a relation meets",
    "secure(TEXT)": "A table of schema data shows to mesh_ruled only rows that mesh.rows has conditions for",
    "publish(TEXT)": "A view of schema read can be read by mesh_reader, also with only those rows: as ruled_ and its name",
}
EACH = """
    DO $$
    DECLARE
        found RECORD;
    BEGIN
        FOR found IN SELECT relation FROM mesh.versions WHERE to_regclass(format('data.%I', relation)) IS NOT NULL LOOP
            {each}
        END LOOP;
    END $$
"""


def upgrade() -> None:
    """The roles, and what they may read of the versions that there are."""
    for statement in (ROLES, ROW_SEEN, SECURE, PUBLISH):
        op.execute(statement)
    for signature, comment in COMMENTS.items():
        op.execute(f"COMMENT ON FUNCTION mesh.{signature} IS '{comment}'")
    op.execute("GRANT USAGE ON SCHEMA mesh, read TO mesh_reader")
    op.execute("GRANT USAGE ON SCHEMA mesh, data TO mesh_ruled")
    op.execute("GRANT CREATE ON SCHEMA read TO mesh_ruled")
    op.execute(f"GRANT SELECT ON {', '.join(f'mesh.{name}' for name in READ)} TO mesh_reader")
    op.execute(
        EACH.format(
            each="PERFORM mesh.secure(found.relation); "
            "IF to_regclass(format('read.%I', found.relation)) IS NOT NULL THEN PERFORM mesh.publish(found.relation); END IF;"
        )
    )


def downgrade() -> None:
    """Take it all back but the roles, which other databases may use."""
    op.execute(
        EACH.format(
            each="EXECUTE format('DROP VIEW IF EXISTS read.%I', 'ruled_' || found.relation); "
            "EXECUTE format('DROP POLICY ruled ON data.%I', found.relation); "
            "EXECUTE format('ALTER TABLE data.%I DISABLE ROW LEVEL SECURITY', found.relation); "
            "EXECUTE format('REVOKE ALL ON data.%I FROM mesh_ruled', found.relation);"
        )
    )
    for signature in COMMENTS:
        op.execute(f"DROP FUNCTION mesh.{signature}")
    op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA mesh, read FROM mesh_reader")
    op.execute("REVOKE ALL ON SCHEMA mesh, read, data FROM mesh_reader, mesh_ruled")
