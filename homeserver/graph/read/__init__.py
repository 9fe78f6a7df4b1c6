"""Reading events.

pages         numbers of a room's visible events before or after a position
visibility    which events a user may see
bundles       bundled aggregations of events; `bundle_store` is their SQL
related       which events have relations that are bundled
"""
