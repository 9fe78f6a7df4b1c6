-- depends: 0041-e2ee
-- A signature of somebody else's key changes how that person looks, to the signer alone: the change is the signed person's.

ALTER TABLE device_list_changes ADD COLUMN seen_by bigint;    -- to whom alone it looks different; NULL: to everybody
UPDATE device_list_changes SET seen_by = user_nid WHERE own_only;
ALTER TABLE device_list_changes DROP COLUMN own_only;
