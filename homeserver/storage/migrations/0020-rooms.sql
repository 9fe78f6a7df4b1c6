-- depends: 0002-events
-- Aliases, the published directory, and rooms that users asked to forget.

CREATE TABLE room_aliases (
    alias text PRIMARY KEY,
    room_nid bigint NOT NULL,
    creator_nid bigint NOT NULL
);
CREATE INDEX room_aliases_room ON room_aliases (room_nid);

CREATE TABLE published_rooms (
    room_nid bigint PRIMARY KEY,
    network text NOT NULL DEFAULT ''        -- an appservice's network, '' for the server's own directory
);

-- Forgotten until the next membership change of the user: position is the membership event's that was forgotten.
CREATE TABLE forgotten_rooms (
    user_nid bigint NOT NULL,
    room_nid bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (user_nid, room_nid)
);
