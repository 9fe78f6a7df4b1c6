-- depends: 0001-log
-- Places where two devices meet (MSC4388). Of worth for minutes: lost with the database's crash.
CREATE UNLOGGED TABLE rendezvous (
    id text PRIMARY KEY,                   -- cannot be guessed: who knows it may read and write
    data text NOT NULL,                    -- encrypted by the devices
    version bigint NOT NULL,               -- counts writes
    expires_ms bigint NOT NULL             -- since 1970
);
CREATE INDEX rendezvous_expires ON rendezvous (expires_ms);
