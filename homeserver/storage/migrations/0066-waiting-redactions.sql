-- depends: 0002-events
-- Redactions that came before what they redact. They are kept from clients (flags & 8) until it comes.
CREATE TABLE waiting_redactions (
    room_nid bigint NOT NULL,
    event_nid bigint NOT NULL,
    redacts text NOT NULL,
    PRIMARY KEY (redacts, event_nid)
);
