-- depends: 0120-media
-- Smaller pictures of blobs, made when somebody asks; they go with their blob.
CREATE TABLE media_thumbnails (
    blob_nid bigint NOT NULL REFERENCES media_blobs ON DELETE CASCADE,
    width int NOT NULL,                -- of the box that was asked for
    height int NOT NULL,
    crop boolean NOT NULL,
    animated boolean NOT NULL,
    key text,                          -- in the blob store; null: the original is small enough
    content_type text NOT NULL,
    size bigint NOT NULL,              -- bytes
    made_ms bigint NOT NULL,
    PRIMARY KEY (blob_nid, width, height, crop, animated)
);
CREATE INDEX media_thumbnails_key ON media_thumbnails (key) WHERE key IS NOT NULL;
CREATE INDEX media_blobs_key ON media_blobs (key);

ALTER TABLE media_blobs ADD COLUMN picture_fault text; -- why there can be no thumbnails
