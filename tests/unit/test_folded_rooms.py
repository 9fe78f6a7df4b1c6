"""Rooms are folded once, as long as they say the same."""

from homeserver.directory.folded_rooms import FoldedRooms
from homeserver.directory.types import PublishedRoom
from homeserver.matrix.ids import RoomId


def room(number: int, name: str, topic: str = "") -> PublishedRoom:
    return PublishedRoom(RoomId(f"!{number}:x"), 1, False, False, "public", name=name, topic=topic or None)


def test_what_a_room_says_now_is_what_counts() -> None:
    folded = FoldedRooms()
    assert folded.of(room(1, "Küche")) == "kuche\n\n"
    assert folded.of(room(1, "Küche")) is folded.of(room(1, "Küche"))
    assert folded.of(room(1, "Bad", "Ж")) == "bad\nж\n"


def test_what_is_remembered_is_bounded() -> None:
    folded = FoldedRooms(limit=100)
    first = folded.of(room(1, "x" * 30))
    for number in range(2, 50):
        folded.of(room(number, "x" * 30))
        assert folded._size <= 100
    assert folded.of(room(1, "x" * 30)) == first
    folded.of(room(50, "x" * 5_000))  # larger than all there may be: folded, and forgotten
    assert folded._size == 0
