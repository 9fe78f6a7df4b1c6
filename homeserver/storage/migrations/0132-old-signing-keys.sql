-- depends: 0131-federation-pauses
-- Keys this server has signed with before. Each names the next one, sealed so that only who has the old key can read it: that is
-- how the other hosts of a server come by it.
CREATE TABLE old_signing_keys (
    key_id text PRIMARY KEY,
    public_key bytea NOT NULL,
    expired_ts bigint NOT NULL,             -- Unix ms: what was signed later is not valid
    successor bytea                         -- NULL: replaced by hand
);
