-- depends: 0209-hooks
-- Members list the hooks of their room.
CREATE INDEX hooks_room ON hooks (room_id);
