-- depends: 0002-events
-- Accounts of this server, their sessions, and what it takes to get one.

CREATE TABLE accounts (
    user_nid bigint PRIMARY KEY REFERENCES users,
    password_hash text,                     -- argon2id (PHC string), or bcrypt until the next login; null: no password
    created_ms bigint NOT NULL,
    deactivated_ms bigint,
    is_guest boolean NOT NULL DEFAULT false,
    is_admin boolean NOT NULL DEFAULT false,
    locked boolean NOT NULL DEFAULT false,
    suspended boolean NOT NULL DEFAULT false,
    erased boolean NOT NULL DEFAULT false,  -- asked for at deactivation: whoever joins later sees redacted events
    rate_limited boolean NOT NULL DEFAULT true,
    appservice_id text,                     -- who registered it, if an application service did
    user_type text                          -- as Synapse's admin interface knows it: bot, support
);

-- Which version of which policy was shown and agreed to.
CREATE TABLE accepted_terms (
    user_nid bigint NOT NULL REFERENCES accounts,
    policy text NOT NULL,
    version text NOT NULL,
    accepted_ms bigint NOT NULL,
    PRIMARY KEY (user_nid, policy, version)
);

CREATE TABLE registration_tokens (
    token text PRIMARY KEY,
    uses_allowed integer,                   -- null: any number
    completed integer NOT NULL DEFAULT 0,
    expires_ms bigint,                      -- null: never
    created_ms bigint NOT NULL
);

-- Nonces of shared-secret registration that were used; they expire within minutes, after a crash all have.
CREATE UNLOGGED TABLE spent_nonces (
    nonce text PRIMARY KEY,
    expires_ms bigint NOT NULL
);

CREATE TABLE openid_tokens (
    hash bytea PRIMARY KEY,                 -- sha-256 of the token
    user_nid bigint NOT NULL REFERENCES accounts,
    expires_ms bigint NOT NULL
);
CREATE INDEX openid_tokens_expires ON openid_tokens (expires_ms);

CREATE TABLE devices (
    user_nid bigint NOT NULL REFERENCES accounts,
    device_id text NOT NULL,
    display_name text,
    created_ms bigint NOT NULL,
    last_seen_ms bigint,
    last_seen_ip text,
    last_seen_agent text,
    PRIMARY KEY (user_nid, device_id)
) WITH (fillfactor = 80);                   -- last_seen is written every few minutes, in place

-- A refresh token stays valid until what it was exchanged for is first used: then it is revoked, and kept a while so
-- that its owner is told "log in again" rather than "forget everything".
CREATE TABLE refresh_tokens (
    refresh_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash bytea NOT NULL UNIQUE,             -- sha-256 of the token
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    parent_nid bigint,                      -- the token it was exchanged for; null once it or its access token was used
    created_ms bigint NOT NULL,
    expires_ms bigint,
    revoked_ms bigint,
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX refresh_tokens_device ON refresh_tokens (user_nid, device_id);

CREATE TABLE access_tokens (
    token_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash bytea NOT NULL UNIQUE,             -- sha-256 of the token
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    refresh_nid bigint,                     -- the refresh token given out with it
    expires_ms bigint,
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX access_tokens_device ON access_tokens (user_nid, device_id);

CREATE TABLE login_tokens (
    hash bytea PRIMARY KEY,                 -- sha-256 of the token
    user_nid bigint NOT NULL REFERENCES accounts,
    expires_ms bigint NOT NULL
);
CREATE INDEX login_tokens_expires ON login_tokens (expires_ms);

-- User-interactive authentication under way. Neither the session's name nor the request can be learned from here.
CREATE TABLE uia_sessions (
    hash bytea PRIMARY KEY,                 -- sha-256 of the session's name
    operation text NOT NULL,
    body_mac bytea NOT NULL,                -- of the request body, keyed with the session's name
    user_nid bigint,                        -- whose token the request carried
    completed text[] NOT NULL,
    remembered text[] NOT NULL,             -- per completed stage, what it learned (a registration token, say)
    registration_token text,                -- the one this session holds a use of
    expires_ms bigint NOT NULL
);
CREATE INDEX uia_sessions_expires ON uia_sessions (expires_ms);
CREATE INDEX uia_sessions_token ON uia_sessions (registration_token) WHERE registration_token IS NOT NULL;

CREATE TABLE profiles (
    user_nid bigint PRIMARY KEY REFERENCES accounts,
    fields bytea NOT NULL                   -- one JSON object; bytea because jsonb refuses U+0000
);

-- What is still to be done for a user, at least once, by one process at a time: telling the rooms of a new profile,
-- leaving them after deactivation. A row goes when the version that was carried out is still the last.
CREATE TABLE account_tasks (
    kind text NOT NULL,
    user_nid bigint NOT NULL REFERENCES accounts,
    version bigint NOT NULL,
    lease_until_ms bigint NOT NULL,         -- until then somebody is on it
    attempts integer NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, user_nid)
);
CREATE INDEX account_tasks_due ON account_tasks (lease_until_ms);
