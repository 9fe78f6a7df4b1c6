-- Mails about what is unread: how far each pusher of kind `email` is. What goes with a pusher goes by itself when it does.

CREATE TABLE mail_digests (
    user_nid bigint NOT NULL,
    app_id text NOT NULL,                -- m.email
    address text NOT NULL,               -- the pushkey: an address of the account, canonical
    since bigint NOT NULL,               -- what came up to here no letter tells of: the pusher was set afterwards
    run bigint NOT NULL DEFAULT 0,       -- which job counts: one that was scheduled before does nothing
    due_at timestamptz,                  -- when that job looks; null: nothing is new
    seen_upto bigint NOT NULL DEFAULT 0, -- what was unread up to here at the last look has waited long enough at the next
    letter_upto bigint,                  -- a letter about what came up to here is being sent, or was when a process died
    hour_ms bigint NOT NULL DEFAULT 0,   -- when the hour began in which letters are counted, Unix ms
    letters integer NOT NULL DEFAULT 0,  -- sent in that hour
    PRIMARY KEY (user_nid, app_id, address),
    FOREIGN KEY (user_nid, app_id, address) REFERENCES pushers (user_nid, app_id, pushkey) ON DELETE CASCADE
);

CREATE TABLE mail_digest_rooms (
    user_nid bigint NOT NULL,
    app_id text NOT NULL,
    address text NOT NULL,
    room_nid bigint NOT NULL,
    told_upto bigint NOT NULL,           -- letters have told of what came up to here
    sent_ms bigint NOT NULL,             -- when the last of them was sent, Unix ms
    pause_ms bigint NOT NULL,            -- how long after it the room alone is no reason for another
    PRIMARY KEY (user_nid, app_id, address, room_nid),
    FOREIGN KEY (user_nid, app_id, address) REFERENCES mail_digests (user_nid, app_id, address) ON DELETE CASCADE
);

-- Secrets in the letters by which whoever has one ends them.
CREATE TABLE unsubscribe_tokens (
    hash bytea PRIMARY KEY,
    user_nid bigint NOT NULL,
    app_id text NOT NULL,
    address text NOT NULL,
    expires_ms bigint NOT NULL,
    FOREIGN KEY (user_nid, app_id, address) REFERENCES mail_digests (user_nid, app_id, address) ON DELETE CASCADE
);
CREATE INDEX unsubscribe_tokens_pusher ON unsubscribe_tokens (user_nid, app_id, address);
CREATE INDEX unsubscribe_tokens_expires ON unsubscribe_tokens (expires_ms);
