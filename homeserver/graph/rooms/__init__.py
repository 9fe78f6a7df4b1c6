"""Rooms in memory.

room   one room: committed state as of a log position, and the events that are pending
cache  all rooms, loaded when needed and kept current by the log
head   the room as a plan sees it: committed state with everything pending
store  SQL that reads rooms
"""
