-- depends: 0063-claimed-order 0068-backed-up-keys 0070-past-memberships
-- One-time keys lie in packs: those of one upload are one row. They are given out from the front.

CREATE TABLE one_time_packs (
    pack_nid bigint GENERATED ALWAYS AS IDENTITY,   -- the order of upload
    user_nid bigint NOT NULL,
    given integer NOT NULL DEFAULT 0,               -- so many were given out: the first ones
    spent boolean NOT NULL DEFAULT false,           -- all of them
    device_id text NOT NULL,
    algorithm text NOT NULL,
    ids text[] NOT NULL,
    ends integer[] NOT NULL,                        -- where each key ends
    keys bytea NOT NULL,                            -- all of them in a row
    PRIMARY KEY (user_nid, device_id, pack_nid)
) WITH (fillfactor = 80);
CREATE INDEX one_time_packs_waiting ON one_time_packs (user_nid, device_id, algorithm, pack_nid) WHERE NOT spent;
-- Random base64 does not get smaller; and of what is not compressed a part can be read without the rest.
ALTER TABLE one_time_packs ALTER keys SET STORAGE EXTERNAL;

-- At most 50 keys of one kind go into one; those that were given out are older than those that wait.
WITH placed AS (
    SELECT *, (row_number() OVER (PARTITION BY user_nid, device_id, algorithm, claimed ORDER BY key_nid) - 1) / 50 AS pack
    FROM one_time_keys
), measured AS (
    SELECT *, sum(length(key)) OVER (PARTITION BY user_nid, device_id, algorithm, claimed, pack ORDER BY key_nid) AS ends
    FROM placed
)
INSERT INTO one_time_packs (user_nid, device_id, algorithm, given, spent, ids, ends, keys)
SELECT user_nid, device_id, algorithm, CASE WHEN claimed THEN count(*) ELSE 0 END, claimed,
       array_agg(key_id ORDER BY key_nid), array_agg(ends ORDER BY key_nid), string_agg(key, '' ORDER BY key_nid)
FROM measured GROUP BY user_nid, device_id, algorithm, claimed, pack
ORDER BY claimed DESC, min(key_nid);

DROP TABLE one_time_keys;
