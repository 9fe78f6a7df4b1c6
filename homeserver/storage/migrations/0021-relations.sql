-- depends: 0002-events
-- Which events relate to which. A row goes when its event is redacted.
CREATE TABLE relations (
    event_nid bigint PRIMARY KEY,
    room_nid bigint NOT NULL,
    sender_nid bigint NOT NULL,
    parent_id text NOT NULL,
    rel_type text NOT NULL,
    type text NOT NULL,
    key text                            -- of annotations
);
CREATE INDEX relations_parent ON relations (parent_id, rel_type);
