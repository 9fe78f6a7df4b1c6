-- depends: 0056-lean-events
-- Where state events stand in the auth graph (homeserver/graph/chains.py): the auth difference of two states is found by
-- comparing numbers. Events that begin a chain have `sequence` 1 and no `chain`; those without `sequence` have no place yet.

ALTER TABLE events ADD COLUMN chain bigint;         -- event_nid of the first event of the chain
ALTER TABLE events ADD COLUMN sequence integer;
ALTER TABLE events ADD COLUMN links bytea;          -- msgpack: (chain, sequence) of places on other chains that are reached from here
CREATE UNIQUE INDEX events_chain ON events (chain, sequence) WHERE chain IS NOT NULL;
