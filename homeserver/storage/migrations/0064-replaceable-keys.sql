-- depends: 0041-e2ee
-- Of a master key: until when its user may replace it without proof, because an administrator said so.
ALTER TABLE cross_signing_keys ADD COLUMN replaceable_until_ms bigint;
