"""Server notices: what the server has to say to its users, in a room of each, the invite to which they cannot turn down.

spec: client-server-api/#server-notices
"""
