-- depends: 0142-federation-inbound
-- What an event that is tried again later waits for: when some of it has come by another way, it is tried at once.
ALTER TABLE federation_staged
    ADD COLUMN lacks_prev text[] NOT NULL DEFAULT '{}',  -- event ids, which have to be here whole
    ADD COLUMN lacks_auth text[] NOT NULL DEFAULT '{}';  -- likewise; outliers are enough
