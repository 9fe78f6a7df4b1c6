"""Plays of what clients show on a screen: rooms by sliding sync, what is searched for, spaces, and events that are sent later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tests.fuzz.attacks import Attack

if TYPE_CHECKING:
    from tests.fuzz.work import Play

SLIDING: Final = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
STABLE: Final = "/_matrix/client/v4/sync"
LISTS, RANGES, STATE, NAMES = 100, 20, 50, 100
_QUERY = 10_000
_EVENT = 60_000


def sliding(play: Play) -> Iterator[Attack]:
    """As many lists, ranges, pieces of state and filters as there may be, over all rooms that there are."""
    for _ in range(10):  # there are more with each play
        yield play.ask("POST", "/createRoom", {"name": play.recipe.text(200)})
    texts = play.recipe.texts(_EVENT)
    names = [text[:255] for text in texts[:NAMES]]
    filters = {
        "is_dm": False, "is_encrypted": False, "is_invite": False, "not_tags": names, "not_room_types": names,
        "room_name_like": play.recipe.text(255),
    }  # fmt: skip
    lists: dict[str, dict[str, Any]] = {}
    for number in range(LISTS):
        starts = ((number * 7 + each * 11) % 97 for each in range(RANGES))
        state = [[f"{number}.{text}"[:255], ""] for text in texts[:STATE]]
        lists[str(number)] = {"ranges": [[at, at + number % 5] for at in starts], "required_state": state}
    yield play.ask("POST", SLIDING, {"lists": lists, "conn_id": "a"})
    lists = {name: {**each, "filters": filters} for name, each in lists.items()}
    yield play.ask("POST", SLIDING, {"lists": lists, "conn_id": "a"})
    whole = {"timeline_limit": 10**9, "required_state": [["*", "*"]]}
    rooms = {f"!{text}"[:255]: whole for text in texts[:499]} | {play.cast.room: whole}
    wanted = {"enabled": True, "rooms": list(rooms), "lists": [text[:64] for text in texts[:1_000]]}
    extensions = dict.fromkeys(("account_data", "receipts", "typing", "e2ee", "to_device"), wanted)
    yield play.ask("POST", SLIDING, {"room_subscriptions": rooms, "extensions": extensions})
    yield play.ask("POST", SLIDING, {"lists": {text: {} for text in texts}}, pos=play.recipe.text(3_000))
    for number in range(5):
        yield play.ask("POST", SLIDING, {"conn_id": f"{number}{play.recipe.text(60)}", "lists": {"a": whole}})
    yield play.ask("POST", STABLE, {"lists": lists, "pos": play.recipe.text(200), "timeout": 0})


def search(play: Play) -> Iterator[Attack]:
    """Texts are sent, then looked for: longer than anybody would type, in more rooms than there are."""
    yield play.send({"msgtype": "m.text", "body": play.recipe.text(_EVENT)})
    term = play.recipe.text(_QUERY)
    rooms = [f"!{text}"[:255] for text in play.recipe.texts(_EVENT)]
    for criteria in (
        {"search_term": term, "order_by": "recent"},
        {"search_term": term, "order_by": "rank", "groupings": {"group_by": [{"key": "room_id"}, {"key": "sender"}]}},
        {"search_term": f'"{term}"', "event_context": {"before_limit": 10**6, "after_limit": 10**6}},
        {"search_term": play.recipe.text(50), "filter": {"rooms": rooms, "senders": rooms, "limit": 10**6}},
        {"search_term": "x", "keys": [play.recipe.text(100)]},
    ):  # fmt: skip
        yield play.ask("POST", "/search", {"search_categories": {"room_events": criteria}})
    yield play.ask("POST", "/search", {"search_categories": {}}, next_batch=play.recipe.text(3_000))
    yield play.ask("POST", "/user_directory/search", {"search_term": term, "limit": 10**6})


def spaces(play: Play) -> Iterator[Attack]:
    """A space of many children that is a child of itself, and what is said of rooms."""
    texts = play.recipe.texts(_EVENT)
    child = {"via": texts, "order": play.recipe.text(50), "suggested": True}
    children = [
        {"type": "m.space.child", "state_key": f"!{text}"[:200] + ":x", "content": {"via": ["x"]}}
        for text in texts[:200]
    ]
    space = {"creation_content": {"type": "m.space"}, "initial_state": children}
    yield play.ask("POST", "/createRoom", space)
    room = _path(play.cast.room)
    yield play.ask("PUT", f"/rooms/{room}/state/m.space.child/{room}", child)
    yield play.ask("PUT", f"/rooms/{room}/state/m.space.child/{_path(play.recipe.text(255))}", child)
    hierarchy = f"/_matrix/client/v1/rooms/{room}/hierarchy"
    yield play.ask("GET", hierarchy, limit="1000000", max_depth="1000000")
    yield play.ask("GET", hierarchy, **{"from": play.recipe.text(3_000)})
    yield play.ask("GET", hierarchy, via=play.recipe.text(3_000))
    yield play.ask("GET", f"/_matrix/client/v1/room_summary/{room}", via=play.recipe.text(3_000))
    yield play.ask("GET", f"/_matrix/client/v1/rooms/{room}/timestamp_to_event", ts="0", dir="f")
    yield play.ask("POST", f"/rooms/{room}/report", {"reason": play.recipe.text(_EVENT * 2)})
    yield play.ask(
        "POST", "/publicRooms", {"filter": {"room_types": texts}, "since": play.recipe.text(3_000)}
    )


def later(play: Play) -> Iterator[Attack]:
    """Floods of events that are sent later, and of events that stick."""
    room = _path(play.cast.room)
    content = {"msgtype": "m.text", "body": "x", "x": play.recipe.value(_EVENT)}
    for number in range(30):
        path = f"/rooms/{room}/send/m.x/{play.number}.{number}"
        yield play.ask("PUT", path + "l", content, **{"org.matrix.msc4140.delay": "3600000"})
        yield play.ask("PUT", path + "s", content, **{"org.matrix.msc4354.sticky_duration_ms": "3600000"})
    delayed = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"
    yield play.ask("GET", delayed)
    yield play.ask("GET", delayed, status="scheduled", **{"from": play.recipe.text(3_000)})
    yield play.ask("POST", f"{delayed}/{_path(play.recipe.text(3_000))}/restart")
    yield play.sync()
    extensions = {"org.matrix.msc4354.sticky_events": {"enabled": True, "limit": 10**6}}
    yield play.ask("POST", SLIDING, {"lists": {"a": {"ranges": [[0, 99]]}}, "extensions": extensions})


def _path(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")
