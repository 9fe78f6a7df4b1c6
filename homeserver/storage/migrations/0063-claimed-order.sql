-- depends: 0047-claimed-keys
-- Of the keys that were given out only the last are remembered: found without looking at those that wait.
CREATE INDEX one_time_keys_claimed ON one_time_keys (user_nid, device_id, key_nid) WHERE claimed;
