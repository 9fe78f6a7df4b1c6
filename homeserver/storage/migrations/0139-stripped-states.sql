-- depends: 0138-outliers
-- Invites to, and knocks on rooms that this server is not in: what the other server has told about the room with it.

CREATE TABLE stripped_states (
    event_nid bigint PRIMARY KEY,           -- the invite or knock
    events bytea NOT NULL,                  -- JSON list of stripped state events, without the membership itself
    servers text[] NOT NULL                 -- who has told it
);
