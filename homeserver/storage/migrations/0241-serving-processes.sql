-- Which processes serve, where several hosts share this database; each writes its row every few seconds.
CREATE UNLOGGED TABLE serving_processes (
    process text PRIMARY KEY,
    part real NOT NULL,                    -- of its host: 1 / number of the host's processes
    seen_at timestamptz NOT NULL
);
