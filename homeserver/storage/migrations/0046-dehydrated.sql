-- depends: 0010-accounts
-- Devices that nobody holds: rows of `devices` without tokens. They go with their device, however that ends.
CREATE TABLE dehydrated_devices (
    user_nid bigint PRIMARY KEY,
    device_id text NOT NULL,
    data bytea NOT NULL,            -- the device itself, encrypted by the client
    FOREIGN KEY (user_nid, device_id) REFERENCES devices ON DELETE CASCADE
);
