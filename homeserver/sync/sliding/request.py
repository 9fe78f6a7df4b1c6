"""What a client asks of sliding sync. Every list is bounded; whatever is longer is refused. spec: MSC4186, "Request Body"."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType

from homeserver.matrix.errors import InvalidParam

MAX_LISTS: Final = 100
MAX_SUBSCRIPTIONS: Final = 500
"""Clients subscribe to what is on the screen; matrix-rust-sdk keeps some earlier ones."""
MAX_RANGES: Final = 20
MAX_STATE: Final = 200
"""Pairs in one `required_state`."""
MAX_ALL_STATE: Final = 5_000
"""Pairs in all of them together."""
MAX_NAMES: Final = 100
"""Spaces, tags or room types in one filter."""
MAX_ROOMS: Final = 1_000
"""Rooms, or lists, that one extension names."""

Short = Annotated[str, msgspec.Meta(max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=255)]
Pair = tuple[Text, Text]
Names = Annotated[list[Text], msgspec.Meta(max_length=MAX_NAMES)]
Types = Annotated[list[Text | None], msgspec.Meta(max_length=MAX_NAMES)]
Index = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Range = tuple[Index, Index]
"""First and last place, both included, from 0."""


class RoomFilters(msgspec.Struct, frozen=True):
    """Which rooms a list has; what is not said does not matter."""

    is_dm: bool | None = None
    spaces: Names | None = None
    """Room ids of spaces the user is in; a room must be a child of one of them."""
    is_encrypted: bool | None = None
    is_invite: bool | None = None
    is_invited: bool | None = None
    """The same under its newer name."""
    room_types: Types | None = None
    not_room_types: Types | None = None
    room_name_like: Text | None = None
    tags: Names | None = None
    not_tags: Names | None = None

    @property
    def invited(self) -> bool | None:
        """Whether only rooms the user is invited to, or only others, are wanted."""
        return self.is_invite if self.is_invited is None else self.is_invited


class RoomConfig(msgspec.Struct, frozen=True):
    """What of a room is wanted: of one subscribed to."""

    timeline_limit: Index = 0
    required_state: Annotated[list[Pair], msgspec.Meta(max_length=MAX_STATE)] = []


class ListConfig(RoomConfig, frozen=True):
    """A list: of which rooms, and which places in it."""

    ranges: Annotated[list[Range], msgspec.Meta(max_length=MAX_RANGES)] | None = None
    range: Range | None = None
    filters: RoomFilters | None = None

    @property
    def windows(self) -> list[Range] | None:
        """Places that are wanted; None: all."""
        if self.range is not None:
            return [*(self.ranges or ()), self.range]
        return self.ranges


class Extension(msgspec.Struct, frozen=True):
    """What all extensions may say. Without `lists` and `rooms` it is about all rooms the connection has been told of."""

    enabled: bool = False
    lists: Annotated[list[Short], msgspec.Meta(max_length=MAX_ROOMS)] | None = None
    rooms: Annotated[list[Text], msgspec.Meta(max_length=MAX_ROOMS)] | None = None

    @property
    def everywhere(self) -> bool:
        """Whether it is about all rooms."""
        wildcard = "*" in (self.lists or ()) or "*" in (self.rooms or ())
        return wildcard or (self.lists is None and self.rooms is None)


class ToDevice(msgspec.Struct, frozen=True):
    """To-device messages after `since`, which tells that those before have arrived."""

    enabled: bool = False
    since: Text | None = None


class StickyWish(msgspec.Struct, frozen=True):
    """Sticky events after `since`. spec: MSC4480"""

    enabled: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1)] = 100
    since: Text | None = None


class ThreadsWish(msgspec.Struct, frozen=True):
    """Changes of subscriptions to threads. spec: MSC4308"""

    enabled: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1)] = 100


_UNSTABLE: Final = {
    "sticky_events": "org.matrix.msc4354.sticky_events",
    "thread_subscriptions": "io.element.msc4308.thread_subscriptions",
}


class Extensions(msgspec.Struct, frozen=True, rename=_UNSTABLE):
    """What is wanted beside rooms. Extensions that this server does not have are ignored."""

    to_device: ToDevice = ToDevice()
    e2ee: Extension = Extension()
    account_data: Extension = Extension()
    receipts: Extension = Extension()
    typing: Extension = Extension()
    sticky_events: StickyWish = StickyWish()
    thread_subscriptions: ThreadsWish = ThreadsWish()


class SlidingRequest(msgspec.Struct, frozen=True):
    """The body of a request."""

    conn_id: Annotated[str, msgspec.Meta(max_length=64)] = ""
    lists: Annotated[dict[Short, ListConfig], msgspec.Meta(max_length=MAX_LISTS)] = {}
    room_subscriptions: Annotated[dict[Text, RoomConfig], msgspec.Meta(max_length=MAX_SUBSCRIPTIONS)] = {}
    extensions: Extensions = Extensions()
    txn_id: Text | UnsetType = UNSET
    """Told back in the answer (older clients)."""


def check(request: SlidingRequest) -> None:
    """Raises `InvalidParam` for what no schema can say."""
    for name, wanted in request.lists.items():
        for first, last in wanted.windows or ():
            if last < first:
                raise InvalidParam(f"lists.{name}.ranges: the last place is before the first")
    configs = [*request.lists.values(), *request.room_subscriptions.values()]
    if sum(len(config.required_state) for config in configs) > MAX_ALL_STATE:
        raise InvalidParam(f"required_state: more than {MAX_ALL_STATE} pairs in all")
