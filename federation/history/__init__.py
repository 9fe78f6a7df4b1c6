"""The past of rooms: told to other servers, and asked of them.

spec: server-server-api/#backfilling-and-retrieving-missing-events, #retrieving-events
"""
