-- depends: 0139-stripped-states
-- Where a room was taken as another server has it: what was said before the position is not here, or was said during an earlier stay.

CREATE TABLE room_gaps (
    room_nid bigint NOT NULL,
    position bigint NOT NULL,               -- of the first event after the gap: the join of one of ours
    PRIMARY KEY (room_nid, position)
);
