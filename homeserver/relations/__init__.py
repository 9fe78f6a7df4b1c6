"""Relations: what relates to an event, page by page, and in short with the event itself.

spec: client-server-api/#forming-relationships-between-events (REL-02, REL-04, REL-06, REL-08, REL-09, REL-12 to REL-14)
"""
