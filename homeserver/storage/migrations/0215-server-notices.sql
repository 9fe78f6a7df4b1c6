-- depends: 0002-events
-- The room in which the server tells a user something.
CREATE TABLE server_notice_rooms (
    user_nid bigint PRIMARY KEY,           -- users.user_nid
    room_nid bigint NOT NULL
);
