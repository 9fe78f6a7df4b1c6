"""How servers come into rooms and users out of them: joining, knocking, leaving and inviting between servers, both sides.

spec: server-server-api/#joining-rooms, #knocking-upon-a-room, #inviting-to-a-room, #leaving-rooms-rejecting-invites
"""
