-- depends: 0045-key-backup
-- How many keys a backup has: every upload says it, and counting takes the longer the more there are.
ALTER TABLE key_backups ADD COLUMN keys bigint NOT NULL DEFAULT 0;
UPDATE key_backups b SET keys = (SELECT count(*) FROM backed_up_keys k WHERE k.user_nid = b.user_nid AND k.version = b.version);
