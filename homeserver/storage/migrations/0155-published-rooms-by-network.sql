-- depends: 0154-appservices
-- A room may be in the server's own list and in those of application services' networks.

ALTER TABLE published_rooms DROP CONSTRAINT published_rooms_pkey;
ALTER TABLE published_rooms ADD PRIMARY KEY (room_nid, network);
