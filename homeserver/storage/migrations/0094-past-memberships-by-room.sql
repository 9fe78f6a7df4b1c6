-- depends: 0070-past-memberships
-- Who has come and gone in a room since a position is asked for whoever was away for longer than memory reaches (device lists).

CREATE INDEX past_memberships_room ON past_memberships (room_nid, event_nid);
