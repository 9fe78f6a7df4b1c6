"""Spaces: the tree of rooms under a room.

spec: client-server-api/#spaces
"""
