-- depends: 0163-remote-device-lists
-- older: may run
-- Messages to devices of other servers' users, until their server has acknowledged them.
CREATE TABLE federation_device_messages (
    position bigint PRIMARY KEY,
    perishable boolean NOT NULL,    -- goes first when too much waits for a server
    destination text NOT NULL,
    content bytea NOT NULL          -- the content of the EDU, canonical JSON
);
CREATE INDEX federation_device_messages_destination ON federation_device_messages (destination, position);
