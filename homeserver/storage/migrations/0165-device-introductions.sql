-- depends: 0164-federation-device-messages
-- older: may run
-- Users whose devices are to be told to servers that they have begun to share a room with.
CREATE TABLE federation_device_introductions (
    position bigint PRIMARY KEY,
    user_nid bigint NOT NULL,
    user_id text NOT NULL,
    servers text[] NOT NULL,
    written timestamptz NOT NULL DEFAULT clock_timestamp()
);
