"""The stream of rooms: which rooms an answer is about, their timelines, state and summaries.

classify  what each room is to the user: joined, new, left, invited, knocked
timeline  the events of each, and where the timeline begins
state     the state up to the timeline's beginning (or its end)
lazy      members the client has been given already
summary   heroes and counts
stream    all of it, as bytes
"""
