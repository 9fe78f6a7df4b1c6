-- depends: 0070-past-memberships 0094-past-memberships-by-room
-- One user's memberships of one room are found by both. With only one of them in an index, a planner that knows nothing of
-- the tables yet (nobody has analyzed them) reads the room's whole state for each of its members.

CREATE INDEX current_state_user_room ON current_state (user_nid, room_nid) WHERE user_nid IS NOT NULL;
DROP INDEX current_state_user;
CREATE INDEX past_memberships_user_room ON past_memberships (user_nid, room_nid, event_nid);
