-- depends: 0002-events 0170-delayed-events
-- Events that are sticky (MSC4354), until they no longer are.
CREATE TABLE sticky_events (
    event_nid bigint PRIMARY KEY,          -- events.event_nid
    room_nid bigint NOT NULL,
    position bigint NOT NULL,              -- of the log, since when clients are told: the event's own, or that of its acceptance
    ends_ms bigint NOT NULL,               -- since 1970
    soft_failed boolean NOT NULL           -- told to nobody, and looked at again when the state of the room changes
);
CREATE INDEX sticky_events_ends ON sticky_events (ends_ms);
ALTER TABLE delayed_events ADD COLUMN sticky_ms integer;  -- for how long the event is sticky when it is sent
