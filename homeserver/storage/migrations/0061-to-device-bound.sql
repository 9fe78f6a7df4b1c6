-- depends: 0040-to-device
-- What goes first when too much waits for a device.
ALTER TABLE to_device ADD COLUMN perishable boolean NOT NULL DEFAULT false;
