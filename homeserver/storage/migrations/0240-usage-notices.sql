-- depends: 0215-server-notices
-- Who was told that the server has as many people as it may have, and by which event, which is pinned in their notices room.
CREATE TABLE usage_notices (
    user_nid bigint PRIMARY KEY,           -- users.user_nid
    event_id text                          -- NULL: they could not be told
);
