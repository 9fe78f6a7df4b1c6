-- depends: 0030-account-data
-- Push rules and lists of ignored users as they were: what was unread then counts by them, whatever they are now.
CREATE TABLE past_account_data (
    user_nid bigint NOT NULL,
    type text NOT NULL,                 -- m.push_rules or m.ignored_user_list
    upto bigint NOT NULL,               -- position of what took its place
    content bytea,                      -- null: there was none
    PRIMARY KEY (user_nid, type, upto)
);
