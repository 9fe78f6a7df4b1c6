-- depends: 0010-accounts
-- Backups of room keys, encrypted by clients.
CREATE TABLE key_backups (
    user_nid bigint NOT NULL,
    version bigint NOT NULL,
    algorithm text NOT NULL,
    auth_data bytea NOT NULL,
    etag bigint NOT NULL DEFAULT 0,         -- grows with every change of the keys
    deleted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_nid, version)
);

CREATE TABLE backed_up_keys (
    user_nid bigint NOT NULL,
    version bigint NOT NULL,
    room_id text NOT NULL,
    session_id text NOT NULL,
    is_verified boolean NOT NULL,
    first_message_index bigint NOT NULL,
    forwarded_count bigint NOT NULL,
    session_data bytea NOT NULL,
    PRIMARY KEY (user_nid, version, room_id, session_id)
);
