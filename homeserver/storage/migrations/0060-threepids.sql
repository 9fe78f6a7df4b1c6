-- depends: 0010-accounts
-- E-mail addresses of accounts, and those somebody is about to prove theirs.

CREATE TABLE threepids (
    medium text NOT NULL,                   -- email
    address text NOT NULL,                  -- in canonical form
    user_nid bigint NOT NULL REFERENCES accounts,
    validated_ms bigint NOT NULL,
    added_ms bigint NOT NULL,
    PRIMARY KEY (medium, address)
);
CREATE INDEX threepids_user ON threepids (user_nid);

-- A row goes when what was proved has been used, or when it has expired.
CREATE TABLE threepid_sessions (
    sid text PRIMARY KEY,
    purpose text NOT NULL,                  -- register, add, reset: what is proved for one is no proof for another
    medium text NOT NULL,
    address text NOT NULL,
    secret_hash bytea NOT NULL,             -- sha-256 of the client secret
    send_attempt bigint NOT NULL,
    next_link text,
    expires_ms bigint NOT NULL,
    validated_ms bigint,                    -- null: nobody has followed the link yet
    UNIQUE (purpose, medium, address, secret_hash)
);
CREATE INDEX threepid_sessions_expires ON threepid_sessions (expires_ms);

-- Each mail has a token of its own: whichever of them is opened, its link works.
CREATE TABLE threepid_tokens (
    hash bytea PRIMARY KEY,                 -- sha-256 of the token
    sid text NOT NULL REFERENCES threepid_sessions ON DELETE CASCADE,
    expires_ms bigint NOT NULL
);
CREATE INDEX threepid_tokens_session ON threepid_tokens (sid);
