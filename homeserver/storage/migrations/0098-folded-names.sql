-- depends: 0010-accounts 0097-sealed-bodies
-- What people are found by: their display name as `homeserver/matrix/folding.py` folds it, which no function of the database does.
ALTER TABLE profiles
    ADD COLUMN folded_name text NOT NULL DEFAULT '',
    ADD COLUMN folding smallint NOT NULL DEFAULT 0;     -- the version of the folding; another one: folded anew before it is read
