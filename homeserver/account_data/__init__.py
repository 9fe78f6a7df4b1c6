"""Account data, global and per room, with tags and the list of ignored users.

spec: client-server-api/#client-config, #room-tagging, #ignoring-users (AD-01 to AD-04)
"""
