-- depends: 0002-events
-- Who is about. Of no worth after a crash of the database, so it needs no write-ahead log.
CREATE UNLOGGED TABLE presence (
    user_nid bigint PRIMARY KEY,
    position bigint NOT NULL,
    last_active_ms bigint NOT NULL,
    presence text NOT NULL,
    status_msg text
);
