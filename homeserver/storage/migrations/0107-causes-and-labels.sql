-- depends: 0106-redacted-originals
-- Who acted and why, where the entries of the log do not say it themselves.
CREATE TABLE log_causes (
    first bigint PRIMARY KEY,       -- positions of one append, in one transaction
    last bigint NOT NULL,
    actor_nid bigint,               -- users.user_nid; null: the server itself, or another one
    reason text NOT NULL,
    request_id text,                -- as in the log lines of requests; null: background work
    written_ms bigint NOT NULL
);

-- What policy checks said about what they let pass. An event's position is its event_nid.
CREATE TABLE log_labels (
    position bigint NOT NULL,
    label text NOT NULL,
    PRIMARY KEY (position, label)
);
CREATE INDEX log_labels_label ON log_labels (label, position);
