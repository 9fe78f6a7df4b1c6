-- depends: 0162-device-changes
-- older: may run
-- Devices and keys of users of other servers, so that a query for them needs no request. Their cross-signing keys stand in
-- cross_signing_keys, as everybody's.

CREATE TABLE remote_device_lists (
    user_nid bigint PRIMARY KEY,
    version bigint NOT NULL,        -- another one whenever what is kept may be wrong: who fetches compares it
    fresh boolean NOT NULL,         -- what is kept is what their server would say
    stream_id bigint                -- which version of the list it is, for their server; null: it did not say
) WITH (fillfactor = 80);

CREATE TABLE remote_devices (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    keys bytea NOT NULL,            -- the device_keys object, without `unsigned`
    display_name text,
    PRIMARY KEY (user_nid, device_id)
);
