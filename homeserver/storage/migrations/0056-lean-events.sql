-- depends: 0053-push-facts
-- What an event's row says twice goes: links to other events stand in its JSON, which is packed for state events
-- (events/packing.py). The index by id holds 4 bytes of hash instead of 44 of text; unique all the same.

ALTER TABLE events DROP COLUMN prev, DROP COLUMN auth;
ALTER TABLE events DROP CONSTRAINT events_event_id_key;
ALTER TABLE events ADD CONSTRAINT events_event_id EXCLUDE USING hash (event_id WITH =);

-- Read only for "state events of a room between two positions".
DROP INDEX events_room_key;
CREATE INDEX events_room_state ON events (room_nid, event_nid) WHERE key_nid IS NOT NULL;
