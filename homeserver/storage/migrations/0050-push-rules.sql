-- depends: 0010-accounts
-- Push rules of users who have changed any; JSON of what is their own and what they changed of the defaults.
CREATE TABLE push_rules (
    user_nid bigint PRIMARY KEY,
    rules bytea NOT NULL
);
