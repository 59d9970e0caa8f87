-- What a Subscriber keeps in the database of its service, on PostgreSQL 14 or newer.

CREATE TABLE IF NOT EXISTS subscription_checkpoints (
    subscriber text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    topic_id text NOT NULL,                             -- Kafka's: another one is a topic that was made anew
    next_offset bigint NOT NULL,                        -- all below it has had its effects
    fence bigint NOT NULL,                              -- raised by each process that takes the partition
    PRIMARY KEY (subscriber, topic, partition)
);
CREATE TABLE IF NOT EXISTS subscription_sequences (
    subscriber text NOT NULL,
    topic text NOT NULL,
    key bytea NOT NULL,
    sequence bigint NOT NULL,                           -- the last one: an event with this or a lower one was seen before
    PRIMARY KEY (subscriber, topic, key)
);
CREATE TABLE IF NOT EXISTS subscription_letters (
    subscriber text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    key bytea,
    value bytea,
    headers jsonb NOT NULL,                             -- a list of [name, value in base64]
    reason text,                                        -- why it was refused; NULL: parked behind one that was
    detail text,
    kept_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subscriber, topic, partition, "offset")
);
CREATE INDEX IF NOT EXISTS subscription_letters_key ON subscription_letters (subscriber, topic, key);
