-- depends: 0106-redacted-originals
-- What people upload. A row says everything about a file; what it holds lies in the blob store under `key`.
CREATE TABLE media_blobs (
    blob_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256 bytea NOT NULL UNIQUE,      -- of what it holds: what is uploaded twice is kept once
    key text NOT NULL,                 -- in the blob store; never used again when the blob is gone
    size bigint NOT NULL,              -- bytes
    refs int NOT NULL,                 -- rows of media
    verdict text                       -- of the scanner: '' is clean, else what was found; null: not scanned
) WITH (fillfactor = 85);

CREATE TABLE media (
    media_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server_name text NOT NULL,
    media_id text NOT NULL,
    blob_nid bigint REFERENCES media_blobs,      -- null: not uploaded yet
    uploader_nid bigint,                         -- users.user_nid; null: of another server, or of a preview
    content_type text NOT NULL DEFAULT '',       -- as told; '' if not
    filename text,                               -- as told, without what no header carries
    created_ms bigint NOT NULL,
    expires_ms bigint,                           -- until when it has to be uploaded; null: it is
    last_used_ms bigint NOT NULL,                -- within an hour
    origin smallint NOT NULL DEFAULT 0,          -- 0: a user here; 1: another server; 2: the picture of a web page
    authenticated boolean NOT NULL DEFAULT true, -- from after the freeze: not for those who do not log in
    quarantined_by text,                         -- an administrator, or the scanner
    protected boolean NOT NULL DEFAULT false,    -- from being quarantined
    held boolean NOT NULL DEFAULT false,         -- stays whoever deletes it and however old it is
    UNIQUE (server_name, media_id)
) WITH (fillfactor = 85);
CREATE INDEX media_blob ON media (blob_nid);
CREATE INDEX media_uploader ON media (uploader_nid, created_ms) WHERE uploader_nid IS NOT NULL;
CREATE INDEX media_expiring ON media (expires_ms) WHERE expires_ms IS NOT NULL;
CREATE INDEX media_unused ON media (origin, last_used_ms);

CREATE TABLE media_usage (
    user_nid bigint PRIMARY KEY,
    bytes bigint NOT NULL,             -- as counted for the quota
    files bigint NOT NULL
) WITH (fillfactor = 70);
