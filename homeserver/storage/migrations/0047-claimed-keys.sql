-- depends: 0041-e2ee
-- A one-time key that was given out is remembered for a while: a client whose upload was not answered sends it again.

ALTER TABLE one_time_keys ADD COLUMN claimed boolean NOT NULL DEFAULT false;
DROP INDEX one_time_keys_order;
CREATE INDEX one_time_keys_order ON one_time_keys (user_nid, device_id, algorithm, key_nid) WHERE NOT claimed;
