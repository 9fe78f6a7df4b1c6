-- depends: 0142-federation-inbound
-- What other servers did and were told, counted by day: for the status and for trying out another configuration.
CREATE TABLE federation_activity (
    day integer NOT NULL,                  -- days since 1970, UTC
    server_name text NOT NULL,
    kind text NOT NULL,
    room_id text NOT NULL,                 -- empty: in no room, or rooms were not told apart; of what was refused: why
    count bigint NOT NULL,
    peak bigint NOT NULL,                  -- the most in one second, or the most bytes
    PRIMARY KEY (day, server_name, kind, room_id)
);
