"""What of rooms is told to a viewer between two positions, whoever writes it down and how.

classify            what each room is to the viewer: joined, new, left, invited, knocked
timeline            the events of each, and where the timeline begins
state               the state up to the timeline's beginning (or its end)
resolution_changes  what current state became without an event in the timeline
summary             heroes, and when a summary is news
stripped            invites and knocks
lazy                members a client has been given already
forward             events of all rooms in the order of the log
selector            all of it, as a `RoomUpdate` for each room with news
"""
