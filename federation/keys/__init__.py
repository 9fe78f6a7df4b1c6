"""Keys of servers: our own, published; those of others, fetched and kept; and what is checked with them.

spec: server-server-api/#retrieving-server-keys
"""
