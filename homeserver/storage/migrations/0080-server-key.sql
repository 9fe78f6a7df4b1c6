-- depends: 0072-server-name
-- The key the server signs with, so that of several hosts on one database none signs with another. Noted at the next start.
ALTER TABLE server_name ADD COLUMN key_id text, ADD COLUMN public_key bytea;
