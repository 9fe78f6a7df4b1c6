"""Where the bytes of files are kept: `files` (a folder), `s3` (any store that speaks S3)."""
