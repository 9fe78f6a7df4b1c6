-- Stretches of the log that a restore from a backup has cut off: positions in them were given out, what they stood for is lost.
-- depends: 0001-log

CREATE TABLE log_breaks (
    after bigint PRIMARY KEY,   -- the last position that the backup knew
    upto bigint NOT NULL        -- nothing up to here will be given out again
);
