"""Simplified sliding sync: the client says which rooms it wants, and of them what. spec: MSC4186

request         what a client asks for, and the bounds of it
required_state  which state of a room it wants
facts           what rooms are sorted and filtered by
windows         which rooms the lists and subscriptions match
connection      what a connection has been told
connections     connections in memory and in the database
shared          rooms as many are told them
rooms           what was selected of rooms, written down
extensions      what other streams give
service         one request: build, or wait and build
"""
