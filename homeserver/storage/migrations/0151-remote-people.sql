-- depends: 0098-folded-names
-- Users of other servers as people here find them: by the name in the last membership event that this server has seen. Made of events by
-- a reader of the log; who is in no room any more is found by nobody, and stays for when they come back.
CREATE TABLE remote_people (
    user_nid bigint PRIMARY KEY,
    name text,
    avatar_url text,
    folded_name text NOT NULL,              -- as `homeserver/matrix/folding.py` folds it
    folding smallint NOT NULL               -- the version of the folding
);
