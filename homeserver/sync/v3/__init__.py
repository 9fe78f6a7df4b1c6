"""`/v3/sync`: what was selected of rooms, and what other streams give, as bytes.

rooms     sections of rooms; those that many readers share are made once
assemble  bytes of the answer
service   one request: build, or wait and build
filters   stored filters
"""
