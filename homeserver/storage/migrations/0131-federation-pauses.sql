-- depends: 0130-remote-server-keys
-- Servers that did not answer lately, and until when they are left alone: shared by all processes, written a moment later. What
-- is lost with a crash costs one attempt.
CREATE UNLOGGED TABLE federation_pauses (
    server_name text PRIMARY KEY,
    failures integer NOT NULL,              -- in a row; 0: it has answered again
    since_ms bigint NOT NULL,               -- the first of them
    failed_ms bigint NOT NULL,              -- the last of them
    until_ms bigint NOT NULL,
    problem text NOT NULL,
    changed_ms bigint NOT NULL
);
CREATE INDEX federation_pauses_changed ON federation_pauses (changed_ms);
