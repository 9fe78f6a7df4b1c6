-- depends: 0099-events-by-time
-- State events do without: what they take is bounded, and they are found beside messages (rooms/by_timestamp.py).
DROP INDEX events_time;
CREATE INDEX events_messages_time ON events (room_nid, origin_server_ts, event_nid) WHERE key_nid IS NULL;
