-- depends: 0122-url-previews
-- older: may run
-- Cursors of readers that find again by themselves what a cursor lacks (federation: the latest event of each room) hold back
-- no purge, however long the other side is away.

ALTER TABLE log_readers ADD COLUMN hold boolean NOT NULL DEFAULT true;
