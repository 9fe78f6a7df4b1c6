-- depends: 0002-events
-- older: may run
-- Where clients want their users to be notified when they are not looking. Few users have more than three.
CREATE TABLE pushers (
    user_nid bigint NOT NULL,
    app_id text NOT NULL,
    pushkey text NOT NULL,
    kind text NOT NULL,                  -- http
    device_id text,                      -- of the session that set it, and with which it ends; null: of an application service
    enabled boolean NOT NULL,
    set_ms bigint NOT NULL,              -- when it was set last
    url text NOT NULL,                   -- the gateway's
    details bytea NOT NULL,              -- JSON: names for people, language, what the gateway is told of it
    PRIMARY KEY (user_nid, app_id, pushkey)
);
CREATE INDEX pushers_pushkey ON pushers (app_id, pushkey);
