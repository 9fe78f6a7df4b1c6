-- The log: its head, the feed by which processes learn of each other's writes, idempotency keys, durable cursors.

-- One row: the lock and the counter. fillfactor leaves room for in-page updates.
CREATE TABLE log_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO log_head (position) VALUES (0);

-- What was appended lately, for the tails of other processes. After a crash of the database no process has anything
-- in memory that the feed could be missing from, so it needs no write-ahead log.
CREATE UNLOGGED TABLE log_feed (
    position bigint PRIMARY KEY,
    kind text NOT NULL,
    payload bytea NOT NULL
);

-- Requests already carried out: blake2b-128 of (user, device, endpoint, transaction id).
CREATE TABLE once (
    key bytea PRIMARY KEY,
    position bigint NOT NULL,   -- of the last entry it wrote; 0 if none
    user_nid bigint NOT NULL,
    device_id text NOT NULL,    -- device and txn_id give `unsigned.transaction_id` to the device that sent an event
    txn_id text NOT NULL,
    written_ms bigint NOT NULL
);
CREATE INDEX once_position ON once (position) WHERE position > 0;

-- Readers that must run once in a cluster: how far they came, and who runs them now.
CREATE TABLE cursors (
    name text PRIMARY KEY,
    position bigint NOT NULL DEFAULT 0,
    lease_owner text,
    lease_until_ms bigint NOT NULL DEFAULT 0
);
