-- depends: 0146-readers-that-resume
-- older: may run
-- What the sender of federation traffic keeps beside its cursors.

-- Users of one server are found by it: which rooms it is in.
CREATE INDEX users_server ON users (substr(user_id, strpos(user_id, ':') + 1));

-- Events of other servers' users that this server has to pass on to the servers in their room.
CREATE TABLE federation_relays (
    position bigint PRIMARY KEY,
    event_nid bigint NOT NULL,
    servers text[] NOT NULL,         -- beside those in the room
    written timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What became of the last transactions to each destination; for people. Times in Unix ms.
CREATE TABLE federation_destinations (
    destination text PRIMARY KEY,
    success_ms bigint NOT NULL,
    failure_ms bigint NOT NULL,
    error text NOT NULL              -- of the last failure
) WITH (fillfactor = 70);
