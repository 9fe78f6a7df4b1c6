-- depends: 0120-media
-- older: may run
-- Where several hosts serve: what stands in the folder of files that all of them see.
CREATE TABLE media_place (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    token text NOT NULL
);
