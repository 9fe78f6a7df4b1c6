-- depends: 0002-events
-- Filters that clients have stored.
CREATE TABLE filters (
    user_nid bigint NOT NULL,
    filter_id integer NOT NULL,
    filter bytea NOT NULL,
    PRIMARY KEY (user_nid, filter_id)
);
