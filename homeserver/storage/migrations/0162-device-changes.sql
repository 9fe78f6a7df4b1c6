-- depends: 0055-signatures-by
-- older: may run
-- Which devices a change is about, for other servers: a JSON array of device ids, empty where it is the cross-signing keys alone;
-- null: a change from before this was kept.
ALTER TABLE device_list_changes ADD COLUMN devices bytea;
