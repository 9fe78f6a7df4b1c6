-- depends: 0060-threepids
-- Addresses that identity servers were told to be a user's.
CREATE TABLE bound_addresses (
    user_nid bigint NOT NULL,              -- users.user_nid
    medium text NOT NULL,
    address text NOT NULL,
    id_server text NOT NULL,
    PRIMARY KEY (user_nid, medium, address, id_server)
);
