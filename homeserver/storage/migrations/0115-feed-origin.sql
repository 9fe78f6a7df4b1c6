-- depends: 0106-redacted-originals
-- Whose entry it is, where another process of the same host wrote it: how that one learns, after the writer's death, what
-- was written. 8 bytes of the process, 8 of the append, 2 of the entry's place in it.
ALTER TABLE log_feed ADD COLUMN origin bytea;
