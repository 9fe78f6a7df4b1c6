"""State at any event.

states      reading states, with a cache
rows        how states are written down: deltas, and shortcuts that reach back further
resolver    state resolution for rooms in the database
chains      the chain cover as it is written; `auth_cover` answers auth differences from it
compaction  writes shortcuts behind the writers; `upkeep` and `garbage` keep states short and few
drift       recomputes a sample of rooms and tells what differs
"""
