-- depends: 0075-one-time-packs 0241-serving-processes
-- How many keys of a device were given out stands in a small row of its own: a claim writes that, and not the pack anew with
-- all its ids. The keys of a device and an algorithm are numbered from 0; those before `given` were given out.

CREATE TABLE one_time_queues (
    user_nid bigint NOT NULL,
    given bigint NOT NULL DEFAULT 0,
    total bigint NOT NULL,              -- numbers up to here were uploaded
    device_id text NOT NULL,
    algorithm text NOT NULL,
    PRIMARY KEY (user_nid, device_id, algorithm)
) WITH (fillfactor = 50);               -- in-page updates

ALTER TABLE one_time_packs ADD first bigint;    -- the number of its first key
UPDATE one_time_packs p SET first = numbered.first FROM (
    SELECT user_nid, device_id, pack_nid,
           sum(cardinality(ids)) OVER (PARTITION BY user_nid, device_id, algorithm ORDER BY pack_nid) - cardinality(ids) AS first
    FROM one_time_packs
) numbered
WHERE (p.user_nid, p.device_id, p.pack_nid) = (numbered.user_nid, numbered.device_id, numbered.pack_nid);

-- Packs were given out from the oldest on. None is given out twice even if that was not so.
INSERT INTO one_time_queues (user_nid, device_id, algorithm, given, total)
SELECT user_nid, device_id, algorithm, coalesce(max(first + given) FILTER (WHERE given > 0), 0), max(first + cardinality(ids))
FROM one_time_packs GROUP BY user_nid, device_id, algorithm;

DROP INDEX one_time_packs_waiting;
ALTER TABLE one_time_packs DROP CONSTRAINT one_time_packs_pkey, DROP given, DROP spent, ALTER first SET NOT NULL,
    ADD PRIMARY KEY (user_nid, device_id, algorithm, first);
