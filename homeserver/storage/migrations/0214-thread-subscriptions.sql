-- depends: 0002-events
-- Threads that users have subscribed to, or no longer are (MSC4306).
CREATE TABLE thread_subscriptions (
    user_nid bigint NOT NULL,              -- users.user_nid
    thread text NOT NULL,                  -- event id of its root
    room_nid bigint NOT NULL,
    subscribed boolean NOT NULL,
    automatic boolean NOT NULL,            -- because of an event, not because the user said so
    position bigint NOT NULL,              -- of the log, when it became so
    unsubscribed_at bigint NOT NULL,       -- of the log, when the user unsubscribed last; 0: never
    PRIMARY KEY (user_nid, thread)
);
CREATE INDEX thread_subscriptions_changes ON thread_subscriptions (user_nid, position);
