-- depends: 0105-log-readers
-- What redactions took out of `events`, kept apart for a while before it is destroyed. Nothing serves it.
CREATE TABLE redacted_originals (
    event_nid bigint PRIMARY KEY,                   -- the event that was redacted
    room_nid bigint NOT NULL,
    sender_nid bigint NOT NULL,
    redacted_by bigint NOT NULL,                    -- the redaction
    kept_since timestamptz NOT NULL DEFAULT now(),
    held boolean NOT NULL DEFAULT false,            -- stays however old it is, and whoever asks for erasure
    pdu bytea NOT NULL                              -- as `events.pdu` was, or plain JSON
);
CREATE INDEX redacted_originals_due ON redacted_originals (kept_since) WHERE NOT held;
CREATE INDEX redacted_originals_sender ON redacted_originals (sender_nid) WHERE NOT held;
