"""The event graph in PostgreSQL and in memory, shared by the client-server features and federation.

refs        an event (or state) that may not have its number yet
interning   integers for users, rooms and state keys
entry       an event as a log entry, and the sink that writes a batch of them
stored      an event as it is read: with the server's notes on it, in client form
events      loading events, with a cache
states      state at any event: deltas, merged logarithmically
room        one room in memory: committed state, and the head that writers build on
rooms       all rooms in memory, fed by the log
append      building events on a room's head and appending them
"""
