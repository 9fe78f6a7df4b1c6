-- depends: 0010-accounts
-- How often a user may do something, where an administrator has given them a rate of their own; NULL: as everybody.
-- Without any limit: accounts.rate_limited.
ALTER TABLE accounts ADD COLUMN rate_per_second double precision, ADD COLUMN rate_burst integer;
