-- depends: 0010-accounts
-- Of a registration under way the request is kept, for clients that send it once. It can be read only by who knows the
-- session's name, and of that a hash alone is here.
ALTER TABLE uia_sessions ADD COLUMN sealed_body bytea;
