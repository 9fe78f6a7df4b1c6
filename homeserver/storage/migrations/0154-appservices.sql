-- depends: 0122-url-previews
-- Application services that were registered at run time, and how far each was told.

CREATE TABLE appservices (
    id text PRIMARY KEY,
    token_hash bytea NOT NULL UNIQUE,       -- SHA-256 of the as_token
    registration bytea NOT NULL,            -- JSON without the as_token; the hs_token has to be sent, so it is in it
    created_ms bigint NOT NULL
);

-- The last transaction that was begun: it is sent again as it was until the service has taken it.
CREATE TABLE appservice_transactions (
    service_id text PRIMARY KEY,
    upto bigint NOT NULL,                   -- position of its last entry; also its id
    positions bigint[] NOT NULL,            -- of all its entries
    failing_since_ms bigint,                -- null: the last one that was tried was taken
    reason text                             -- why not
);

-- Whose accounts are application services': of few accounts among many.
CREATE INDEX accounts_of_appservices ON accounts (user_nid) WHERE appservice_id IS NOT NULL;
