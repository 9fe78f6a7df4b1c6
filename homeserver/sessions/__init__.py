"""Sessions of devices: access, refresh and login tokens, and from a token to the requester."""
