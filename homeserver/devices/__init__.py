"""The devices of a local user: listing, naming, ending."""
