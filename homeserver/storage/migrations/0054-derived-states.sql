-- depends: 0053-push-facts
-- The state after a state event follows from the event's own row: it needs no row in `state`. What is left there are states
-- made by resolution (numbers from -2^62 down, so that backfilled events may have the negative numbers above), and shortcuts,
-- which say how the state after an event differs from one further back.

ALTER TABLE state ADD COLUMN reach integer NOT NULL DEFAULT 1;      -- heights between this state and `parent`
ALTER TABLE state ADD COLUMN content bytea;                         -- of states made by resolution: blake2b-128 of what is set
UPDATE state s SET reach = s.height - coalesce((SELECT p.height FROM state p WHERE p.state_nid = s.parent), 0);
DELETE FROM state WHERE state_nid > 0 AND reach = 1;

UPDATE events SET state_nid = state_nid - 4611686018427387903 WHERE state_nid < 0;
UPDATE rooms SET state_nid = state_nid - 4611686018427387903 WHERE state_nid < 0;
UPDATE state SET parent = parent - 4611686018427387903 WHERE parent < 0;
UPDATE state SET state_nid = state_nid - 4611686018427387903 WHERE state_nid < 0;
-- A good deal lower than any there can be by now.
ALTER SEQUENCE resolved_state_nids MAXVALUE -4611686018427387904 START WITH -4611686019427387904
    RESTART WITH -4611686019427387904;

CREATE INDEX state_parent ON state (parent);
CREATE INDEX state_content ON state (content) WHERE content IS NOT NULL;
CREATE INDEX events_resolved_state ON events (state_nid) WHERE state_nid <= -4611686018427387904;
