-- depends: 0010-accounts 0060-threepids 0075-one-time-packs
-- Work that outlives the process: jobs, and when periodic work of the whole cluster is due. All times are the database's.

CREATE TABLE jobs (
    job_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    key text,                               -- one job of a kind and key: deferring it again replaces the payload; null: any number
    payload bytea NOT NULL,                 -- JSON, as the kind declares it; no secrets
    version bigint NOT NULL DEFAULT 1,      -- counts how often it was deferred
    made_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL,            -- when it may be begun; while somebody is on it, when their lease ends
    owner text,                             -- the process that is on it
    attempts integer NOT NULL DEFAULT 0,
    cause text,                             -- of the last failure, without values
    failed_at timestamptz,                  -- given up
    UNIQUE (kind, key)
) WITH (fillfactor = 80);
CREATE INDEX jobs_due ON jobs (kind, due_at) WHERE failed_at IS NULL;
CREATE INDEX jobs_failed ON jobs (failed_at) WHERE failed_at IS NOT NULL;

CREATE TABLE periodic_work (
    name text PRIMARY KEY,
    owner text,                             -- the process that runs it now
    lease_until timestamptz,                -- unless it is renewed
    due_at timestamptz NOT NULL DEFAULT now(),
    succeeded_at timestamptz,
    failures integer NOT NULL DEFAULT 0     -- since it last succeeded
) WITH (fillfactor = 50);

-- What accounts entail in rooms is a kind of job now.
INSERT INTO jobs (kind, key, payload, due_at)
SELECT 'accounts.' || kind, user_nid::text, convert_to('{"user_nid":' || user_nid || '}', 'UTF8'), now()
FROM account_tasks;
DROP TABLE account_tasks;
