-- depends: 0170-delayed-events
-- Delayed events that end a call membership, and whose restarting a client has left to us for as long as it is in the call.
CREATE TABLE delegated_leaves (
    room text NOT NULL,                    -- of LiveKit
    identity text NOT NULL,                -- of the participant there
    delay_id text NOT NULL,
    delay_ms bigint NOT NULL,
    seen_ms bigint NOT NULL,               -- until when the participant counts as being there
    look_ms bigint NOT NULL,               -- when it is next looked whether they are
    PRIMARY KEY (room, identity)
);
CREATE INDEX delegated_leaves_look ON delegated_leaves (look_ms);
