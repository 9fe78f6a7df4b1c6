"""The event graph in PostgreSQL and in memory, shared by the client-server features and federation.

refs             an event (or state) that may not have its number yet
interning        integers for users, rooms and state keys
persisted_event  an event as it is read: with the server's notes on it, in client form
event_cache      loading events, with a cache
entry            an event as a log entry
relations        relations between events
resolved         a state made by resolution, as it is written

state/           state at any event, its rows, and its resolution
rooms/           rooms in memory: what is committed, and the head that writers build on
write/           building events on a room's head, receiving events from elsewhere, the sink that writes a batch
read/            pages of a room, who may see what, bundled aggregations
"""
