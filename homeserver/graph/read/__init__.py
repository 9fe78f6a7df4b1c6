"""Reading events.

pages         numbers of a room's visible events before or after a position
page_size     how large a page may become
visibility    which events a user may see
bundles       bundled aggregations of events; `bundle_store` is their SQL
related       which events have relations that are bundled
"""
