-- depends: 0099-messages-by-time 0106-redacted-originals
-- What messages, room names and topics are found by: their words, as homeserver/matrix/cutting.py cuts them.
CREATE TABLE search_entries (
    event_nid bigint PRIMARY KEY,
    room_nid bigint NOT NULL,
    sender_nid bigint NOT NULL,
    edit_nid bigint,                -- the newest edit, whose words these are
    kind smallint NOT NULL,         -- 1 a message, 2 one with a `url`, 3 a room's name, 4 its topic
    words tsvector NOT NULL         -- with places; also .r and the room, .a to .d and the block of the log (search/words.py)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);
-- What waits to be merged is read by every search: no more than some hundred messages.
CREATE INDEX search_entries_words ON search_entries USING gin (words) WITH (fastupdate = on, gin_pending_list_limit = 256);
CREATE INDEX search_entries_edits ON search_entries (edit_nid) WHERE edit_nid IS NOT NULL;

-- Going through the whole log again: one row, while it goes on and afterwards.
CREATE TABLE search_rebuild (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,       -- of the rules by which words are cut
    first_nid bigint NOT NULL,
    done_nid bigint NOT NULL,       -- everything up to here is in the index
    last_nid bigint NOT NULL,       -- done when it is reached: what is newer comes by the log
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended timestamptz
);

-- Events that no reader of the log is told of: older history, and what becomes a part of a room later than it came.
CREATE TABLE search_late (event_nid bigint PRIMARY KEY);

-- Whoever redacts or deletes an event, its words go in the same transaction.
CREATE FUNCTION search_redacted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM search_entries WHERE event_nid = NEW.event_nid;
    UPDATE search_entries SET words = '' WHERE edit_nid = NEW.event_nid;
    RETURN NULL;
END
$$;
CREATE TRIGGER search_redacted AFTER UPDATE OF redacted_by ON events
    FOR EACH ROW WHEN (NEW.redacted_by IS NOT NULL) EXECUTE FUNCTION search_redacted();

CREATE FUNCTION search_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM search_entries s USING gone WHERE s.event_nid = gone.event_nid;
    UPDATE search_entries s SET words = '' FROM gone WHERE s.edit_nid = gone.event_nid;
    RETURN NULL;
END
$$;
CREATE TRIGGER search_deleted AFTER DELETE ON events
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION search_deleted();

CREATE FUNCTION search_is_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO search_late VALUES (NEW.event_nid) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER search_backfilled AFTER INSERT ON events
    FOR EACH ROW WHEN (NEW.event_nid < 0 AND NEW.flags = 0) EXECUTE FUNCTION search_is_late();
CREATE TRIGGER search_shown AFTER UPDATE OF flags ON events
    FOR EACH ROW WHEN (OLD.flags <> 0 AND NEW.flags = 0) EXECUTE FUNCTION search_is_late();
