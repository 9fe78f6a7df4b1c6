"""Which rooms the filter of a search chooses, and what that costs (SRCH-01)."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, cast

from typing_extensions import override

from homeserver.events.filtering import RoomEventFilter
from homeserver.graph.refs import JOIN
from homeserver.matrix.ids import RoomId
from homeserver.rooms.memberships import Membership
from homeserver.search.readable import Readable

ROOMS = 300


class Named(NamedTuple):
    room_id: RoomId


class Own(NamedTuple):
    rooms: dict[int, Membership]


class World:
    """Somebody in `ROOMS` rooms, none of which replaced another: what `Readable` asks of others."""

    async def of(self, user_nid: int) -> Own:
        del user_nid
        return Own({nid: Membership(JOIN, nid, forgotten=False) for nid in range(ROOMS)})

    async def rooms(self, nids: Collection[int]) -> dict[int, Named]:
        return {nid: Named(RoomId(f"!{nid}:x")) for nid in nids}


class Rooms(Readable):
    """Without a database."""

    def __init__(self) -> None:
        world = cast("Any", World())
        super().__init__(world, world, world, world, world, world)

    @override
    async def _predecessors(self, room_nids: Collection[int]) -> list[RoomId]:
        return []

    async def chosen(self, wanted: RoomEventFilter) -> list[int]:
        return await self._chosen(range(ROOMS), wanted)


class Counted(list[str]):
    """Counts how often it is walked through."""

    walks = 0

    @override
    def __iter__(self) -> Iterator[str]:
        self.walks += 1
        return super().__iter__()


async def test_rooms_are_named_and_left_out() -> None:
    wanted = RoomEventFilter(
        rooms=["!7:x", "!7:x", "nonsense", "!elsewhere:x", "!8:x", "!9:x"], not_rooms=["!8:x"]
    )
    assert await Rooms().chosen(wanted) == [7, 9]
    assert await Rooms().chosen(RoomEventFilter(not_rooms=["!8:x"])) == [n for n in range(ROOMS) if n != 8]
    assert await Rooms().chosen(RoomEventFilter(rooms=[])) == []


async def test_long_filters_are_walked_through_once_however_many_rooms_there_are() -> None:
    """Of 90 000 rooms to leave out a set was made for each room: seconds in one turn of the event loop."""
    names, unwanted = (Counted(f"!{number}:y" for number in range(1_000)) for _ in range(2))
    assert await Rooms().chosen(RoomEventFilter(rooms=names, not_rooms=unwanted)) == []
    assert (names.walks, unwanted.walks) == (1, 1)
