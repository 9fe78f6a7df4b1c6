-- depends: 0002-events
-- What push rules ask of an event (homeserver/events/push_facts.py), so that counting what is unread looks into none.
ALTER TABLE events
    ADD COLUMN facts smallint NOT NULL DEFAULT 0,
    ADD COLUMN thread text,             -- root of the thread the event is in; null: the main timeline
    ADD COLUMN mentions bigint[];       -- our users in the room whom it mentions; null: none
