"""Layer 1, pure: the event graph as values and functions (formats, room versions, authorisation, state resolution)."""
