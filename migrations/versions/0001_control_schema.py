"""The control schema as it first was.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE mesh.checkpoints (
        build INTEGER DEFAULT 0 NOT NULL,
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        next_offset BIGINT NOT NULL,
        fence BIGINT DEFAULT 0 NOT NULL,
        topic_id TEXT NOT NULL,
        partitions INTEGER NOT NULL,
        consumed BIGINT DEFAULT 0 NOT NULL,
        applied BIGINT DEFAULT 0 NOT NULL,
        ignored BIGINT DEFAULT 0 NOT NULL,
        dead_lettered BIGINT DEFAULT 0 NOT NULL,
        parked BIGINT DEFAULT 0 NOT NULL,
        event_time TIMESTAMP WITH TIME ZONE,
        halted_reason TEXT,
        halted_at TIMESTAMP WITH TIME ZONE,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        PRIMARY KEY (build, topic, partition)
    )""",
    "COMMENT ON COLUMN mesh.checkpoints.build IS '0, or the building entity''s version id'",
    "COMMENT ON COLUMN mesh.checkpoints.partitions IS 'partition count of the topic'",
    "COMMENT ON COLUMN mesh.checkpoints.event_time IS 'the record timestamp of the newest applied record'",
    """CREATE TABLE mesh.decisions (
        topic TEXT NOT NULL,
        topic_id TEXT NOT NULL,
        partition INTEGER NOT NULL,
        "offset" BIGINT NOT NULL,
        action TEXT NOT NULL,
        value BYTEA,
        decided_at TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (topic, topic_id, partition, "offset")
    )""",
    "COMMENT ON TABLE mesh.decisions IS 'Decisions on dead letters, folded from mesh.events; every build honours them.'",
    "COMMENT ON COLUMN mesh.decisions.action IS 'retry, edit or discard'",
    "COMMENT ON COLUMN mesh.decisions.value IS 'the event that replaces an edited one'",
    """CREATE TABLE mesh.event_index (
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        "offset" BIGINT NOT NULL,
        workflow_id UUID NOT NULL,
        service TEXT NOT NULL,
        entity TEXT NOT NULL,
        key TEXT NOT NULL,
        type TEXT NOT NULL,
        time TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (topic, partition, "offset")
    )""",
    "CREATE INDEX event_index_entity ON mesh.event_index (service, entity, key)",
    "CREATE INDEX event_index_type ON mesh.event_index (type, time)",
    "CREATE INDEX event_index_workflow ON mesh.event_index (workflow_id, time)",
    "COMMENT ON TABLE mesh.event_index IS 'Where the events of a workflow are in the log: positions only.'",
    """CREATE TABLE mesh.generation (
        id SMALLINT DEFAULT 1 NOT NULL,
        value BIGINT DEFAULT 1 NOT NULL,
        PRIMARY KEY (id)
    )""",
    "COMMENT ON TABLE mesh.generation IS 'Rises with every change of versions, so that projectors and readers notice.'",
    """CREATE TABLE mesh.held_events (
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        "offset" BIGINT NOT NULL,
        version_id INTEGER NOT NULL,
        topic_id TEXT NOT NULL,
        status TEXT NOT NULL,
        record_key TEXT NOT NULL,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL,
        key BYTEA,
        value BYTEA,
        edited BYTEA,
        headers JSONB DEFAULT '[]' NOT NULL,
        timestamp BIGINT NOT NULL,
        event_type TEXT,
        event_id TEXT,
        sequence BIGINT,
        attempts INTEGER DEFAULT 1 NOT NULL,
        otherwise TEXT NOT NULL,
        counted TEXT NOT NULL,
        held_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        PRIMARY KEY (topic, partition, "offset", version_id)
    )""",
    "CREATE INDEX held_events_by_key ON mesh.held_events (topic, partition, record_key)",
    "COMMENT ON TABLE mesh.held_events IS 'Dead letters and the events parked behind them, whole.'",
    "COMMENT ON COLUMN mesh.held_events.version_id IS 'entity version; 0 for all of the topic'",
    "COMMENT ON COLUMN mesh.held_events.counted IS 'the outcome it is counted under'",
    "COMMENT ON COLUMN mesh.held_events.edited IS 'what an edit put in place of the value'",
    "COMMENT ON COLUMN mesh.held_events.otherwise IS 'what it came to for versions that do not hold it'",
    "COMMENT ON COLUMN mesh.held_events.status IS 'dead (a dead letter) or parked (held behind one)'",
    "COMMENT ON COLUMN mesh.held_events.timestamp IS 'milliseconds since 1970'",
    """CREATE TABLE mesh.recent_ids (
        version_id INTEGER NOT NULL,
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        event_id TEXT NOT NULL,
        "offset" BIGINT NOT NULL,
        PRIMARY KEY (version_id, topic, partition, event_id)
    )""",
    'CREATE INDEX recent_ids_by_offset ON mesh.recent_ids (version_id, topic, partition, "offset")',
    "COMMENT ON TABLE mesh.recent_ids IS 'Event ids within the window that an add declares.'",
    """CREATE TABLE mesh.sequences (
        version_id INTEGER NOT NULL,
        record_key TEXT NOT NULL,
        sequence BIGINT NOT NULL,
        PRIMARY KEY (version_id, record_key)
    )""",
    "COMMENT ON TABLE mesh.sequences IS 'The last sequence applied for a record key, kept beyond deletes.'",
    """CREATE TABLE mesh.versions (
        id INTEGER GENERATED BY DEFAULT AS IDENTITY,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        relation TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        declaration JSONB NOT NULL,
        reads JSONB DEFAULT '{}' NOT NULL,
        topics TEXT[] NOT NULL,
        state TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        live_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id),
        UNIQUE (kind, name, number)
    )""",
    "CREATE UNIQUE INDEX versions_one_live ON mesh.versions (kind, name) WHERE state = 'live'",
    "COMMENT ON COLUMN mesh.versions.kind IS 'entity or view'",
    "COMMENT ON COLUMN mesh.versions.name IS 'service.entity, or the view''s name'",
    "COMMENT ON COLUMN mesh.versions.relation IS 'the physical table in schema data'",
    "COMMENT ON COLUMN mesh.versions.declaration IS 'EntityModel or ViewModel as plain JSON'",
    "COMMENT ON COLUMN mesh.versions.reads IS 'a view: entity -> version id'",
    "COMMENT ON COLUMN mesh.versions.topics IS 'topics that feed it'",
    "COMMENT ON COLUMN mesh.versions.state IS 'building, live, previous'",
    "INSERT INTO mesh.generation (id, value) VALUES (1, 1)",
    # Percent-encodes one part of a composite key (RFC 3986 unreserved characters stay), as the model does.
    r"""
    CREATE FUNCTION mesh.key_part(part text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
      SELECT coalesce(string_agg(
        CASE WHEN c ~ '^[A-Za-z0-9_.~-]$' THEN c
             ELSE regexp_replace(upper(encode(convert_to(c, 'UTF8'), 'hex')), '(..)', '%\1', 'g') END, '' ORDER BY n), '')
      FROM regexp_split_to_table(part, '') WITH ORDINALITY AS chars(c, n)
    $$
    """,
)


def upgrade() -> None:
    """Make schemas, tables and the function that spells composite keys."""
    for schema in ("data", "read"):
        op.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Forget everything; it is all derived from the log but the checkpoints."""
    for schema in ("read", "data"):
        op.execute(f"DROP SCHEMA {schema} CASCADE")
    for table in (
        "recent_ids",
        "sequences",
        "event_index",
        "decisions",
        "held_events",
        "checkpoints",
        "versions",
        "generation",
    ):
        op.execute(f"DROP TABLE mesh.{table}")
    op.execute("DROP FUNCTION mesh.key_part(text)")
