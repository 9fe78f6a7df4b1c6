-- depends: 0002-events
-- Account data, global (room_nid 0) and per room; tags are the room account data m.tag.
CREATE TABLE account_data (
    user_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    type text NOT NULL,
    position bigint NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (user_nid, room_nid, type)
);
CREATE INDEX account_data_changes ON account_data (user_nid, position);
