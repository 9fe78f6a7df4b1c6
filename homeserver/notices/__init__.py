"""Server notices: what the server has to say to its users, in a room of each that they cannot leave.

spec: client-server-api/#server-notices
"""
