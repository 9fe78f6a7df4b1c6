-- depends: 0122-url-previews
-- What other servers have sent: transactions that were answered, and events that are not in their rooms yet.
CREATE TABLE federation_transactions (
    transaction_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    origin text NOT NULL,
    txn_id text NOT NULL,
    answer bytea NOT NULL,             -- JSON: the same again for who asks again
    UNIQUE (origin, txn_id)
);
CREATE INDEX federation_transactions_newest ON federation_transactions (origin, transaction_nid);

CREATE TABLE federation_staged (
    staged_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_nid bigint NOT NULL,
    retry_at timestamptz,              -- null: now; else what it refers to could not be had, and is asked for again then
    size int NOT NULL,                 -- bytes of pdu
    attempts smallint NOT NULL DEFAULT 0,
    origin text NOT NULL,              -- who has sent it: not necessarily whose event it is
    event_id text NOT NULL,
    pdu bytea NOT NULL,                -- canonical JSON of the right format; signatures and hashes are not checked yet
    UNIQUE (room_nid, event_id, origin)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX federation_staged_room ON federation_staged (room_nid, staged_nid);
CREATE INDEX federation_staged_origin ON federation_staged (origin) INCLUDE (size);

-- Rooms that have something staged, and which process is at work on it.
CREATE TABLE federation_staged_rooms (
    room_nid bigint PRIMARY KEY,
    version bigint NOT NULL,           -- counts what was staged: who has seen the newest may go
    lease_until timestamptz,
    retry_at timestamptz,              -- null: now; else when the first of what is staged is tried again
    owner text                         -- the process; null: nobody
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
