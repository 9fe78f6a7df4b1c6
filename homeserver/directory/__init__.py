"""Finding rooms and people: the list of published rooms, the search for people, networks of bridges.

spec: client-server-api/#published-room-directory, #user-directory, #third-party-networks
"""
