-- depends: 0002-events
-- How far people have come in hierarchies that they page through, so that any process can go on. It may be lost at any time: a
-- client begins again.
CREATE UNLOGGED TABLE space_walks (
    token bytea PRIMARY KEY,                -- random; what clients have of it
    user_nid bigint NOT NULL,
    made_ms bigint NOT NULL,
    state bytea NOT NULL
);
CREATE INDEX space_walks_user ON space_walks (user_nid, made_ms);
