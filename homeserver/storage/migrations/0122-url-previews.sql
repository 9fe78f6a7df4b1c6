-- depends: 0121-media-thumbnails
-- What web pages say of themselves, for a while.
CREATE TABLE url_previews (
    url_sha256 bytea PRIMARY KEY,
    properties bytea,                  -- JSON as it is answered; null: the page could not be had
    expires_ms bigint NOT NULL
);
CREATE INDEX url_previews_expiring ON url_previews (expires_ms);
