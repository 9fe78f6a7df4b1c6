-- depends: 0056-lean-events 0061-chain-cover
-- What a user's membership is stands in current_state; here stay those that have ended. A first join is written once.

ALTER TABLE current_state ADD COLUMN since bigint;  -- position from which the membership holds, where it is not event_nid

WITH last AS (
    SELECT DISTINCT ON (user_nid, room_nid) user_nid, room_nid, event_nid, membership FROM memberships
    ORDER BY user_nid, room_nid, event_nid DESC
)
UPDATE current_state c SET since = last.event_nid FROM last
WHERE c.user_nid = last.user_nid AND c.room_nid = last.room_nid AND c.membership = last.membership
      AND c.event_nid <> last.event_nid;

DELETE FROM memberships m USING current_state c
WHERE c.user_nid = m.user_nid AND c.room_nid = m.room_nid AND m.event_nid = coalesce(c.since, c.event_nid);

ALTER TABLE memberships RENAME TO past_memberships;

-- What happened to the memberships of users, in log order: the past ones (of ours), and the present ones.
CREATE VIEW memberships AS
    SELECT user_nid, event_nid, room_nid, membership FROM past_memberships
    UNION ALL
    SELECT user_nid, coalesce(since, event_nid) AS event_nid, room_nid, membership FROM current_state
    WHERE user_nid IS NOT NULL AND membership IS NOT NULL;
