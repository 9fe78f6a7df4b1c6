"""What this server tells others by itself: events of our users, and what is not part of rooms' graphs (EDUs).

A reader of the log (docs/decisions/0014-readers.md) with a cursor for each destination. Requests travel by `federation.transport`.
spec: server-server-api/#transactions, #edus
"""
