"""What is held is held per entity version; all decisions on a letter are kept, in their order.

Until now an event was remembered, by its sequence or its id, once it was applied; from now on once it is met. So what is
parked is remembered here. Of events that repeat one another and are parked both, both are applied when they are
released: `mesh rebuild ENTITY` reads them again as they are read now, and does so too for a database that passed this
revision before it remembered anything.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HELD = (
    'topic, "partition", "offset", topic_id, status, record_key, reason, detail, key, value, edited, headers, timestamp, '
    "event_type, event_id, attempts, otherwise, counted, held_at"
)

REMEMBER = """
    WITH parked AS (
        SELECT h.*, jsonb_path_exists(fold, '$.operations[*].window') AS windowed
        FROM mesh.held_events h
        JOIN mesh.versions v ON v.id = h.version_id
        JOIN jsonb_array_elements(v.declaration -> 'folds') fold ON fold #>> '{contract,type}' = h.event_type
        WHERE h.status = 'parked' AND h.edited IS NULL
    ), sequences AS (
        INSERT INTO mesh.sequences AS known (version_id, record_key, sequence)
        SELECT version_id, record_key, max(sequence) FROM parked WHERE sequence IS NOT NULL GROUP BY 1, 2
        ON CONFLICT (version_id, record_key) DO UPDATE SET sequence = greatest(known.sequence, excluded.sequence)
    )
    INSERT INTO mesh.recent_ids AS known (version_id, topic, "partition", event_id, "offset")
    SELECT version_id, topic, "partition", event_id, max("offset") FROM parked
    WHERE sequence IS NULL AND windowed GROUP BY 1, 2, 3, 4
    ON CONFLICT (version_id, topic, "partition", event_id)
    DO UPDATE SET "offset" = greatest(known."offset", excluded."offset")
"""


def upgrade() -> None:
    """Rows held for all of a topic (version 0) become rows of each version that the topic feeds."""
    op.execute(
        f"INSERT INTO mesh.held_events (version_id, sequence, {HELD}) SELECT v.id, sequence, {HELD} "
        "FROM mesh.held_events h JOIN mesh.versions v ON v.kind = 'entity' AND v.state = 'live' AND h.topic = ANY(v.topics) "
        "AND (v.name <> 'mesh.workflow_entry' OR h.topic = 'mesh.events') WHERE h.version_id = 0 ON CONFLICT DO NOTHING"
    )
    op.execute("DELETE FROM mesh.held_events WHERE version_id <= 0")
    op.execute(REMEMBER)
    op.execute("ALTER TABLE mesh.held_events DROP COLUMN sequence")
    op.execute("COMMENT ON COLUMN mesh.held_events.version_id IS 'the entity version that holds it'")
    op.execute(
        "COMMENT ON TABLE mesh.sequences IS 'The last sequence met for a record key, kept beyond deletes.'"
    )
    op.execute("ALTER TABLE mesh.decisions ADD COLUMN decided_offset BIGINT NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE mesh.decisions ALTER COLUMN decided_offset DROP DEFAULT")
    op.execute("ALTER TABLE mesh.decisions DROP CONSTRAINT decisions_pkey")
    op.execute(
        'ALTER TABLE mesh.decisions ADD PRIMARY KEY (topic, topic_id, "partition", "offset", decided_offset)'
    )
    op.execute("COMMENT ON COLUMN mesh.decisions.decided_offset IS 'of the decision, on mesh.events'")


def downgrade() -> None:
    """Of several decisions on a letter the last one stays."""
    op.execute("ALTER TABLE mesh.held_events ADD COLUMN sequence BIGINT")
    op.execute(
        "DELETE FROM mesh.decisions d USING mesh.decisions later WHERE (d.topic, d.topic_id, d.partition, d.offset) = "
        "(later.topic, later.topic_id, later.partition, later.offset) AND later.decided_offset > d.decided_offset"
    )
    op.execute("ALTER TABLE mesh.decisions DROP COLUMN decided_offset")
    op.execute('ALTER TABLE mesh.decisions ADD PRIMARY KEY (topic, topic_id, "partition", "offset")')
