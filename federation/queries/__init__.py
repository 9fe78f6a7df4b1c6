"""Profiles, aliases, lists of rooms, spaces and OpenID tokens: told to other servers, and asked of them.

spec: server-server-api/#querying-for-information, #public-room-directory, #spaces, #openid
"""
