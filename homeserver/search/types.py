"""What is asked of a search."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from homeserver.events.filtering import RoomEventFilter
from homeserver.search.tokens import GroupKey, Order

MAX_LIMIT = 50
"""Results of one answer."""
DEFAULT_LIMIT = 10
MAX_AROUND = 20
"""Events before a result, and after it."""
MAX_TERM = 1_000
"""Characters of what is looked for."""
Key = Literal["content.body", "content.name", "content.topic"]
Count = Annotated[int, msgspec.Meta(ge=0)]


class EventContext(msgspec.Struct):
    """What is to be told of what stood around a result."""

    before_limit: Count = 5
    after_limit: Count = 5
    include_profile: bool = False


class GroupBy(msgspec.Struct):
    key: GroupKey


class Groupings(msgspec.Struct):
    group_by: Annotated[list[GroupBy], msgspec.Meta(max_length=10)] = []


class Criteria(msgspec.Struct):
    """spec: op:search, `room_events`."""

    search_term: Annotated[str, msgspec.Meta(max_length=MAX_TERM)]
    keys: list[Key] | None = None
    filter: RoomEventFilter | None = None
    order_by: Order = "rank"
    event_context: EventContext | None = None
    include_state: bool = False
    groupings: Groupings | None = None

    @property
    def limit(self) -> int:
        """Results of one answer."""
        wanted = self.filter.limit if self.filter is not None else None
        return max(1, min(DEFAULT_LIMIT if wanted is None else wanted, MAX_LIMIT))

    @property
    def group_keys(self) -> list[GroupKey]:
        """Without repetitions."""
        given = self.groupings.group_by if self.groupings is not None else []
        return list(dict.fromkeys(each.key for each in given))


class Categories(msgspec.Struct):
    room_events: Criteria | None = None


class SearchBody(msgspec.Struct):
    """spec: op:search."""

    search_categories: Categories
