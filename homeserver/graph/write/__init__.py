"""Writing events.

append               a plan on the room's head becomes events: auth events, rules, hash, signature
receive              events made elsewhere become part of a room
redactions           redactions that come from elsewhere
originals            what redactions took away: kept apart for a while, then destroyed
forward_extremities  events that nobody points at yet, kept few
facts                what push rules will ask of an event, written with it
sink                 writes a batch of events, after looking whether the rooms are still what they were built on
store                the SQL of that
"""
