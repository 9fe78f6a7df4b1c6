"""What a client asks of sliding sync. Every list is bounded; whatever is longer is refused. spec: MSC4186, "Request Body"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from homeserver.matrix.errors import InvalidParam
from homeserver.sync.sliding.required_state import RequiredState, required, required_elements

MAX_LISTS: Final = 100
MAX_SUBSCRIPTIONS: Final = 500
"""Clients subscribe to what is on the screen; matrix-rust-sdk keeps some earlier ones."""
MAX_STABLE_SUBSCRIPTIONS: Final = 100
"""As MSC4186 says of the stable endpoint."""
MAX_RANGES: Final = 20
MAX_STATE: Final = 200
"""Pairs, or elements of one kind, in one `required_state`."""
MAX_ALL_STATE: Final = 5_000
"""Of them in all `required_state` together."""
MAX_NAMES: Final = 100
"""Spaces, tags or room types in one filter."""
MAX_ROOMS: Final = 1_000
"""Rooms, or lists, that one extension names."""

Presence = Literal["online", "offline", "unavailable"]
_OPAQUE: Final = re.compile(r"[0-9A-Za-z._~-]{1,255}", re.ASCII)
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


class StateElement(msgspec.Struct, frozen=True):
    """Which state events: what is not said does not matter. spec: MSC4186, "RequiredStateElement"."""

    type: Text | None = None
    state_key: Text | None = None


Elements = Annotated[list[StateElement], msgspec.Meta(max_length=MAX_STATE)]


class RequiredStateRequest(msgspec.Struct, frozen=True):
    """Which state of a room is wanted. spec: MSC4186, "RequiredStateRequest"."""

    include: Elements = []
    exclude: Elements = []
    lazy_members: bool = False


class RoomConfig(msgspec.Struct, frozen=True):
    """What of a room is wanted: of one subscribed to."""

    timeline_limit: Index = 0
    required_state: Annotated[list[Pair], msgspec.Meta(max_length=MAX_STATE)] | RequiredStateRequest = []
    """The list of pairs is what it was before MSC4186 was accepted."""

    @property
    def elements(self) -> int:
        """How many things are said of state."""
        wanted = self.required_state
        if isinstance(wanted, RequiredStateRequest):
            return len(wanted.include) + len(wanted.exclude)
        return len(wanted)

    def required(self, me: str) -> RequiredState:
        """The state that is wanted by the user `me`."""
        wanted = self.required_state
        if isinstance(wanted, RequiredStateRequest):
            include = [(each.type, each.state_key) for each in wanted.include]
            exclude = [(each.type, each.state_key) for each in wanted.exclude]
            return required_elements(include, exclude, lazy=wanted.lazy_members)
        return required(wanted, me)


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

    def within(self, lists: Mapping[str, AbstractSet[int]], subscribed: Mapping[str, int]) -> set[int]:
        """Rooms it is about, where it is not about all: of lists those in their ranges. Of lists and of subscriptions, all
        where nothing is said. spec: MSC4508, "Common per-room extension semantics".
        """
        named = lists if self.lists is None else self.lists
        nids = set[int]().union(*(lists.get(name, ()) for name in named))
        chosen = subscribed if self.rooms is None else frozenset(self.rooms)
        nids.update(nid for room_id, nid in subscribed.items() if room_id in chosen)
        return nids


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


class ProfilesWish(Extension, frozen=True):
    """Profiles of people one shares rooms with. spec: MSC4262"""

    fields: Names | None = None
    """None: all."""


UNSTABLE: Final = {
    "profiles": "org.matrix.msc4262.profiles",
    "sticky_events": "org.matrix.msc4354.sticky_events",
    "thread_subscriptions": "io.element.msc4308.thread_subscriptions",
    "typing_unstable": "org.matrix.msc4508.typing",
}
"""Names of extensions that no specification has yet."""


class Extensions(msgspec.Struct, frozen=True, rename=UNSTABLE):
    """What is wanted beside rooms. Extensions that this server does not have are ignored."""

    to_device: ToDevice = ToDevice()
    e2ee: Extension = Extension()
    account_data: Extension = Extension()
    receipts: Extension = Extension()
    typing: Extension = Extension()
    typing_unstable: Extension = Extension()
    """The same, as the stable endpoint had it before MSC4508 was accepted."""
    profiles: ProfilesWish = ProfilesWish()
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


class StableRequest(SlidingRequest, frozen=True):
    """The body of a request to the stable endpoint. spec: MSC4186, "Request Body"."""

    conn_id: Text = ""
    pos: Text | None = None
    timeout: Index = 0
    """Milliseconds."""
    set_presence: Presence = "online"
    lists: Annotated[dict[Text, ListConfig], msgspec.Meta(max_length=MAX_LISTS)] = {}
    room_subscriptions: Annotated[
        dict[Text, RoomConfig], msgspec.Meta(max_length=MAX_STABLE_SUBSCRIPTIONS)
    ] = {}


def check_names(request: StableRequest) -> None:
    """Raises `InvalidParam` for names of lists that are no opaque identifiers. spec: appendices/#opaque-identifiers"""
    for name in request.lists:
        if not _OPAQUE.fullmatch(name):
            raise InvalidParam("lists: the name of a list is no opaque identifier")


def check(request: SlidingRequest) -> None:
    """Raises `InvalidParam` for what no schema can say."""
    for name, wanted in request.lists.items():
        for first, last in wanted.windows or ():
            if last < first:
                raise InvalidParam(f"lists.{name}.ranges: the last place is before the first")
    configs = [*request.lists.values(), *request.room_subscriptions.values()]
    if sum(config.elements for config in configs) > MAX_ALL_STATE:
        raise InvalidParam(f"required_state: more than {MAX_ALL_STATE} of them in all")
