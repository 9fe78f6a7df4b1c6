-- depends: 0120-media
-- Keys of other servers, by which their events and requests are checked: each as the newest answer told it in which it was. What
-- a server no longer tells stays, for what was signed with it before.
CREATE TABLE remote_key_responses (
    response_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server_name text NOT NULL,
    received_ts bigint NOT NULL,
    valid_until_ts bigint NOT NULL,         -- as the server said
    response bytea NOT NULL                 -- JSON with the signatures of the server: what is told to those who ask us as a notary
);
CREATE INDEX remote_key_responses_server ON remote_key_responses (server_name);
CREATE TABLE remote_server_keys (
    server_name text NOT NULL,
    key_id text NOT NULL,
    public_key bytea NOT NULL,
    valid_until_ts bigint NOT NULL,         -- of an old key: when it ceased to be used
    received_ts bigint NOT NULL,
    old boolean NOT NULL,
    response_nid bigint NOT NULL REFERENCES remote_key_responses,
    PRIMARY KEY (server_name, key_id)
);
CREATE INDEX remote_server_keys_response ON remote_server_keys (response_nid);
