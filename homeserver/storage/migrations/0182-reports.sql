-- depends: 0002-events
-- What people report to the administrators, with what they saw.
CREATE TABLE reports (
    report_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_ms bigint NOT NULL,
    reporter_nid bigint NOT NULL,          -- users.user_nid
    kind smallint NOT NULL,                -- 0 an event, 1 a room, 2 a user
    room_id text,
    event_id text,
    user_id text,                          -- who is reported; of an event: its sender
    reason text,
    event bytea                            -- as the reporter could read it then, in the format of the client API
);
CREATE INDEX reports_reporter ON reports (reporter_nid);
CREATE INDEX reports_kind ON reports (kind, report_nid);
