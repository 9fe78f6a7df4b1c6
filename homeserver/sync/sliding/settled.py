"""Connections to which everything was told that there was: what their requests match, and on what grounds, so that who asks for the
same again is matched by what has happened since.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from homeserver.log.entries import Position
from homeserver.rooms.memberships import UserRooms
from homeserver.sync.log_slice import LogSlice
from homeserver.sync.log_slices import LogSlices
from homeserver.sync.sliding.activity import activity
from homeserver.sync.sliding.ports import Labels
from homeserver.sync.sliding.request import SlidingRequest
from homeserver.sync.sliding.store import Key
from homeserver.sync.sliding.windows import Windows, moved_on
from homeserver.sync.types import SyncRequest, Unwanted

MAX_SETTLED: Final = 5_000
"""Connections of which it is remembered that there was nothing more to tell."""


NEVER: Final = -1


class Grounds(NamedTuple):
    """What windows rest on beside the request and the state of rooms."""

    moment: int
    """The user's rooms: `UserRooms.moment`; `NEVER`: they may be something else to lists than they were."""
    labels: Labels
    all_invites: bool
    """Whether the user wants none of them."""
    removed: frozenset[int]
    """Rooms the user was kicked or banned from."""
    direct: AbstractSet[int]
    """Rooms in the windows that are conversations with one person."""


class Settled(NamedTuple):
    """An answer after which there is nothing more to tell, as long as the same is asked and nothing happens."""

    pos: str
    version: int
    """Of what the connection knows with it."""
    upto: Position
    """As of which `windows` are what the request matches."""
    wish: SlidingRequest
    windows: Windows
    grounds: Grounds

    async def windows_now(
        self, user: UserRooms, labels: Labels, unwanted: Unwanted, upto: Position, log_slices: LogSlices
    ) -> Windows | None:
        """What the same request matches as of `upto`, where what has happened since changes the order of rooms alone; None: it
        has to be matched anew. No I/O; of many rooms others have a turn between.
        """
        grounds = self.grounds
        if grounds.moment != user.moment or grounds.labels is not labels:
            return None
        if grounds.all_invites != unwanted.all_invites:
            return None
        if upto <= self.upto:
            return self.windows if upto == self.upto else None
        recent = log_slices.between(self.upto, upto)
        if recent is None:
            return None
        moving, active = activity(recent)
        if not user.rooms.keys().isdisjoint(moving):
            return None
        return await moved_on(self.windows, self.wish, [nid for nid in active if nid in user.joined])

    def grounds_after(self, request: SyncRequest, recent: LogSlice) -> Grounds:
        """Where nothing has happened that concerns the user: in rooms that they are not in something may have."""
        outside = len(request.joined) != len(request.memberships)
        if outside and not request.memberships.keys().isdisjoint(activity(recent).moving):
            return self.grounds._replace(moment=NEVER)
        return self.grounds


class SettledConnections:
    """A bounded cache."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, Settled] = OrderedDict()

    def get(self, key: Key, wish: SlidingRequest) -> Settled | None:
        """If the same was asked then."""
        found = self._known.get(key)
        return found if found is not None and (found.wish is wish or found.wish == wish) else None

    def put(self, key: Key, settled: Settled | None) -> None:
        """None: there is more to tell."""
        if settled is None:
            self._known.pop(key, None)
            return
        self._known[key] = settled
        self._known.move_to_end(key)
        if len(self._known) > MAX_SETTLED:
            self._known.popitem(last=False)
