-- depends: 0002-events
-- How far each user has read, per room, type and thread.
CREATE TABLE receipts (
    room_nid bigint NOT NULL,
    user_nid bigint NOT NULL,
    position bigint NOT NULL,
    event_nid bigint NOT NULL,
    ts_ms bigint NOT NULL,
    type smallint NOT NULL,             -- 1 m.read, 2 m.read.private
    thread text NOT NULL,               -- '' unthreaded, 'main', or the root's event id
    event_id text NOT NULL,
    PRIMARY KEY (room_nid, user_nid, type, thread)
);
CREATE INDEX receipts_changes ON receipts (room_nid, position);
