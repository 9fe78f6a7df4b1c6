-- depends: 0010-accounts
-- Messages waiting for devices. A row goes only when its device has come back with a token from after it.
CREATE TABLE to_device (
    user_nid bigint NOT NULL,
    device_id text NOT NULL,
    position bigint NOT NULL,
    message bytea NOT NULL,         -- the event as the client gets it
    PRIMARY KEY (user_nid, device_id, position)
);
