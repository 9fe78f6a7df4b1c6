"""Rooms as clients see them: creating, joining and leaving, sending, reading.

spec: client-server-api/#rooms-1, #room-membership, #sending-events-to-a-room, #getting-events-for-a-room
"""
