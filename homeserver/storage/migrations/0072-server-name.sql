-- depends: 0002-events 0010-accounts
-- Whose database this is. Every identifier in it ends in the name, so it cannot be another one later.
CREATE TABLE server_name (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    name text NOT NULL
);
INSERT INTO server_name (name)
    SELECT substr(user_id, strpos(user_id, ':') + 1) FROM accounts JOIN users USING (user_nid) ORDER BY created_ms LIMIT 1;
