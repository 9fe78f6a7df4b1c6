"""State resolution: what a room's state is where branches of its graph meet. Pure, sans-I/O, one file per algorithm.

Every server that resolves the same states must get the same result, whatever order they come in (STATE-09).
"""

from homeserver.events.state_resolution.pool import (
    MissingEvents,
    NeedsAgreed,
    NeedsAuthDifference,
    NeedsEvents,
    Request,
    StateMap,
)
from homeserver.events.state_resolution.resolution import Resolution, resolve

__all__ = [
    "MissingEvents",
    "NeedsAgreed",
    "NeedsAuthDifference",
    "NeedsEvents",
    "Request",
    "Resolution",
    "StateMap",
    "resolve",
]
