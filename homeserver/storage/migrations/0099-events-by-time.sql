-- depends: 0056-lean-events
-- For "what was said on that day" (timestamp_to_event): servers and bridges say when an event was sent, and may lie, so that the
-- order of the log does not do. About 35 bytes an event, at the end of the room's part of the index.
CREATE INDEX events_time ON events (room_nid, origin_server_ts, event_nid);
