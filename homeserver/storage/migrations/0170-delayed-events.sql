-- depends: 0002-events
-- Events that users want to have sent later (MSC4140), and for a while what became of them.
CREATE TABLE delayed_events (
    delayed_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delay_id text NOT NULL UNIQUE,         -- cannot be guessed: who knows it may send, restart and cancel
    user_nid bigint NOT NULL,              -- users.user_nid
    appservice_id text,                    -- the application service that acted as the user
    txn_hash bytea,                        -- of device, room, type and transaction id
    room_id text NOT NULL,
    type text NOT NULL,
    state_key text,
    content bytea NOT NULL,                -- JSON
    origin_server_ts bigint,               -- as an application service wants it
    delay_ms bigint NOT NULL,
    since_ms bigint NOT NULL,              -- when the delay began, or began anew
    due_ms bigint NOT NULL,                -- since_ms + delay_ms
    since_position bigint NOT NULL,        -- of the log, when it was scheduled
    claimed_until_ms bigint NOT NULL DEFAULT 0,  -- a process is sending it, or it is not to be tried again before
    attempts smallint NOT NULL DEFAULT 0,
    finalised_ms bigint,                   -- sent, cancelled or failed
    by_action boolean,                     -- because somebody said so, not because it was due
    event_id text,
    error bytea                            -- JSON of a standard error
);
CREATE INDEX delayed_events_due ON delayed_events (due_ms) WHERE finalised_ms IS NULL;
CREATE INDEX delayed_events_user ON delayed_events (user_nid, due_ms, delayed_nid);
CREATE UNIQUE INDEX delayed_events_txn ON delayed_events (user_nid, txn_hash) WHERE txn_hash IS NOT NULL;
CREATE INDEX delayed_events_finalised ON delayed_events (finalised_ms) WHERE finalised_ms IS NOT NULL;
