"""Presence: who is online, idle or away, told to those who share a room with them.

spec: client-server-api/#presence (EPH-09 to EPH-11)
"""
