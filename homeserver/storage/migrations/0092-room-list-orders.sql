-- depends: 0020-rooms
-- In which order pages of the list of published rooms were given out. Of no worth after a crash: then tokens count places
-- in the order of the moment.
CREATE UNLOGGED TABLE room_list_orders (
    digest bytea PRIMARY KEY,           -- of room_nids
    room_nids bigint[] NOT NULL,
    used_ms bigint NOT NULL
);
