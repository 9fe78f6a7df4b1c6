"""`/sync`: a list of streams, one per thing a client hears about, put together by a pure assembler.

types     what a stream is asked, and what it answers
slice     the recent log, sorted by kind, shared by all who ask for the same slice
notifier  wakes long polls
rooms/    the stream of rooms: timelines, state, summaries, invites
service   one request: build, or wait and build
assemble  bytes of the answer

spec: client-server-api/#syncing (SYNC-*)
"""
