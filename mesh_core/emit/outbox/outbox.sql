-- A transactional outbox for services in any language, on PostgreSQL 14 or newer. `mesh relay --sql` prints it.
--
-- A service inserts its events in the transaction of what they tell of; `mesh relay` publishes them. The columns
-- id, aggregatetype, aggregateid, type and payload are those of Debezium's outbox event router.

CREATE TABLE outbox (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),      -- the event's id
    aggregatetype text NOT NULL,                        -- what it is of, such as order
    aggregateid text NOT NULL,                          -- its key as text: the record key and the subject
    type text NOT NULL,                                 -- such as sales.order.placed.v1
    payload jsonb NOT NULL,
    workflow_id uuid,
    headers jsonb NOT NULL DEFAULT '{}',                -- further attributes: correlationid, causationid, tenantid, traceparent
    aggregateversion bigint,                            -- the aggregate's own count: two of the same are refused
    occurred_at timestamptz NOT NULL DEFAULT now(),     -- the event's time
    position bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    sequence bigint,                                    -- by the relay, when it takes the row: the order of publishing
    refused text                                        -- by the relay: why it cannot be published
);
CREATE UNIQUE INDEX outbox_version ON outbox (aggregatetype, aggregateid, aggregateversion)
    WHERE aggregateversion IS NOT NULL;
CREATE INDEX outbox_waiting ON outbox (position) WHERE sequence IS NULL AND refused IS NULL;
CREATE INDEX outbox_taken ON outbox (sequence) WHERE sequence IS NOT NULL;
CREATE INDEX outbox_refused ON outbox (aggregatetype, aggregateid) WHERE refused IS NOT NULL;

-- What the relay knows of the table: one row.
CREATE TABLE outbox_relay (
    id integer PRIMARY KEY CHECK (id = 1),
    sequence bigint NOT NULL,                           -- the last one given
    published bigint NOT NULL,                          -- all up to this one are in the log
    fence bigint NOT NULL,                              -- raised by each relay that begins
    updated_at timestamptz NOT NULL
);

-- Wakes the relay; without it, it looks once a second.
CREATE FUNCTION outbox_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('mesh_outbox', TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME);
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_wake AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION outbox_wake();
