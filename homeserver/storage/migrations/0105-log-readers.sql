-- depends: 0075-one-time-packs
-- Readers of the log that run once in a cluster, and how far each of their cursors is acknowledged.
DROP TABLE cursors;

CREATE TABLE log_readers (
    name text PRIMARY KEY,
    position bigint NOT NULL,        -- every entry up to here was looked at: what is left to deliver before it has rows in log_cursors
    owner text,                      -- the process that runs it
    lease_until timestamptz          -- by the database's clock, unless it is renewed
) WITH (fillfactor = 20);

-- Only cursors that have something to deliver before their reader's position, fail, or have acknowledged something after it.
CREATE TABLE log_cursors (
    reader text NOT NULL REFERENCES log_readers (name),
    key text NOT NULL,               -- what the cursor is for: a destination, an application service, a pusher; '' where there is one for all
    position bigint NOT NULL,        -- acknowledged up to here
    failures int NOT NULL DEFAULT 0, -- in a row
    retry_at timestamptz,            -- when it is tried again, if it fails
    PRIMARY KEY (reader, key)
) WITH (fillfactor = 70);
CREATE INDEX log_cursors_failing ON log_cursors (reader, retry_at) WHERE failures > 0;
