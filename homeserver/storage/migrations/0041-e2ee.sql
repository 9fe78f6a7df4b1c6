-- depends: 0010-accounts
-- Keys of devices and users for end-to-end encryption. The server keeps and hands out; it can read nothing.

CREATE TABLE device_keys (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    keys bytea NOT NULL,                -- the device_keys object as uploaded, without `unsigned`
    PRIMARY KEY (user_nid, device_id)
);

CREATE TABLE one_time_keys (
    key_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,    -- the order of upload
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    algorithm text NOT NULL,
    key_id text NOT NULL,
    key bytea NOT NULL,
    UNIQUE (user_nid, device_id, algorithm, key_id)
);
CREATE INDEX one_time_keys_order ON one_time_keys (user_nid, device_id, algorithm, key_nid);

CREATE TABLE fallback_keys (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    algorithm text NOT NULL,
    key_id text NOT NULL,
    key bytea NOT NULL,
    used boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_nid, device_id, algorithm)
);

CREATE TABLE cross_signing_keys (
    user_nid bigint NOT NULL,
    usage smallint NOT NULL,            -- 1 master, 2 self-signing, 3 user-signing
    public_key text NOT NULL,           -- unpadded base64
    key bytea NOT NULL,                 -- the object as uploaded, without `unsigned`
    PRIMARY KEY (user_nid, usage)
);

-- Signatures uploaded after the key they are of, by its owner or by others.
CREATE TABLE key_signatures (
    target_nid bigint NOT NULL,
    target_key text NOT NULL,           -- device id, or the public key of a cross-signing key
    signer_nid bigint NOT NULL,
    signer_key text NOT NULL,           -- ed25519:…
    signature text NOT NULL,
    PRIMARY KEY (target_nid, target_key, signer_nid, signer_key)
);

-- Whose devices or keys have changed, one row a change however many rooms the user is in.
CREATE TABLE device_list_changes (
    position bigint PRIMARY KEY,
    user_nid bigint NOT NULL,
    own_only boolean NOT NULL           -- of concern to the user alone (the user-signing key)
);
CREATE INDEX device_list_changes_user ON device_list_changes (user_nid, position);
