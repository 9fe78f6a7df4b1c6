-- What connections of sliding sync have been told, so that any process can go on with them, and a process that was started
-- anew. It may be lost at any time: the client begins again. Written when a connection is told of other rooms or in another
-- way, not with each answer.
CREATE UNLOGGED TABLE sliding_connections (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    conn_id text NOT NULL,
    version bigint NOT NULL,                -- random; in the token
    written_ms bigint NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (user_nid, device_id, conn_id, version)
);
CREATE INDEX sliding_connections_written ON sliding_connections (written_ms);
