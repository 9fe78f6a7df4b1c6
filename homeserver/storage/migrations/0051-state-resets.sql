-- depends: 0002-events
-- What the current state of a room became at a position without an event of its own saying so: where branches meet,
-- resolution may bring back an older event, or not take the one that has just arrived. Clients that come back later learn
-- of it from here alone.
CREATE TABLE state_resets (
    room_nid bigint NOT NULL,
    position bigint NOT NULL,               -- of the event with which it happened
    event_nid bigint NOT NULL,              -- what is at the key from then on; 0: nothing
    key_nid integer NOT NULL,
    changed boolean NOT NULL,               -- false: it was there before, and the event at the position did not replace it
    PRIMARY KEY (room_nid, key_nid, position)
);
CREATE INDEX state_resets_room ON state_resets (room_nid, position);
