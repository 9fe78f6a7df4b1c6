"""Relations: what relates to an event, page by page, and in short with the event itself.

spec: client-server-api/#forming-relationships-between-events (REL-01 to REL-14)
"""
