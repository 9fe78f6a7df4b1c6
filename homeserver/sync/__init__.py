"""Syncing: what is told is selected first, then written down by the endpoint that was asked.

types      what a stream is asked, and what it answers: one stream per thing a client hears about
log_slice  the recent log, sorted by kind, shared by all who ask for the same slice
notifier   wakes long polls
selection/ what of rooms is told to a viewer between two positions
v3/        `/v3/sync`
peeking, all_rooms  what clients asked for before `/sync`

spec: client-server-api/#syncing (SYNC-*)
"""
