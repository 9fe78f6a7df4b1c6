-- Relations of events that were written before the table of relations was, and indexes for threads.
-- depends: 0021-relations

CREATE INDEX relations_threads ON relations (room_nid, event_nid) WHERE rel_type = 'm.thread';
DROP INDEX relations_parent;
CREATE INDEX relations_parent ON relations (parent_id, rel_type, event_nid);

DO $$
DECLARE
    found record;
    event jsonb;
    relates jsonb;
BEGIN
    -- State events have none, and what is hidden or redacted has none that counts.
    FOR found IN
        SELECT e.event_nid, e.room_nid, e.sender_nid, e.pdu FROM events e
        WHERE e.key_nid IS NULL AND e.flags = 0 AND e.redacted_by IS NULL
          AND position('"m.relates_to"'::bytea IN e.pdu) > 0
          AND NOT EXISTS (SELECT 1 FROM relations r WHERE r.event_nid = e.event_nid)
    LOOP
        BEGIN
            -- jsonb cannot hold NUL, which messages may have anywhere.
            event := regexp_replace(convert_from(found.pdu, 'UTF8'), '(?<!\\)((?:\\\\)*)\\u0000', '\1', 'g')::jsonb;
            relates := event -> 'content' -> 'm.relates_to';
            IF jsonb_typeof(relates -> 'event_id') = 'string' AND jsonb_typeof(relates -> 'rel_type') = 'string'
               AND length(relates ->> 'event_id') BETWEEN 1 AND 255 AND length(relates ->> 'rel_type') BETWEEN 1 AND 255
            THEN
                INSERT INTO relations (event_nid, room_nid, sender_nid, parent_id, rel_type, type, key)
                VALUES (found.event_nid, found.room_nid, found.sender_nid, relates ->> 'event_id',
                        relates ->> 'rel_type', event ->> 'type',
                        CASE WHEN jsonb_typeof(relates -> 'key') = 'string' AND length(relates ->> 'key') <= 255
                             THEN nullif(relates ->> 'key', '') END);
            END IF;
        EXCEPTION WHEN data_exception THEN
            NULL;  -- what jsonb cannot hold otherwise (half of a surrogate pair) relates to nothing
        END;
    END LOOP;
END
$$;
