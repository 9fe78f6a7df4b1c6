-- depends: 0010-accounts
-- Incoming webhooks. Of their secrets a digest is kept; a hook that is revoked has no row.
CREATE TABLE hooks (
    hook_id text PRIMARY KEY,              -- public: names it in commands, and its user
    secret_digest bytea NOT NULL UNIQUE,   -- SHA-256
    user_nid bigint NOT NULL,              -- users.user_nid: who says what is posted
    room_id text NOT NULL,
    made_by_nid bigint NOT NULL,           -- users.user_nid: who has invited that user
    name text NOT NULL,
    created_ms bigint NOT NULL,
    last_used_ms bigint                    -- to the minute
);
