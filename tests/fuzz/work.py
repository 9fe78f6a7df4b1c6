"""Requests that are made to cost: what a server computes for each byte that somebody sends it.

A `Recipe` says how texts and lists are made; a play is what is done with them, request by request. Recipes are changed at
random, those that cost more than before are kept and changed further: so the search climbs to what is expensive by itself.
What it found stands in `corpus/work.json` and is tried at each run.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from tests.fuzz.attacks import JSON, Attack
from tests.fuzz.cast import Cast
from tests.fuzz.screens import SLIDING, later, search, sliding, spaces

CORPUS = Path(__file__).parent / "corpus" / "work.json"
UNITS = [
    *("a", "a*", "*a", "?", "a?", "*", "ab", "aaaab", "(a+)+", "0", "1", "\\", '"', "[", "{", "."),
    *("a.", "_", "-", "@", "é", "İ", "Σ", "\u0300", "👩‍🚀", " ", "%", "\\.", "a_", "\u0000", "\ud800"),
]
_BODY = 1_000_000
_EVENT = 60_000


@dataclass(frozen=True)
class Recipe:
    """`unit` is repeated `count` times before `tail`; `width` of these stand in a list, `depth` lists deep."""

    play: str
    unit: str = "a"
    count: int = 1
    tail: str = ""
    width: int = 1
    depth: int = 0

    def text(self, at_most: int) -> str:
        return (self.unit * self.count)[: max(0, at_most - len(self.tail))] + self.tail

    def texts(self, at_most: int) -> list[str]:
        """Different ones, of so many characters together."""
        text = self.text(at_most // max(1, self.width))
        return [f"{number:x}{text}" for number in range(self.width)]

    def value(self, at_most: int) -> Any:
        """Lists in lists."""
        found: Any = self.texts(at_most)
        for _ in range(self.depth):
            found = [found]
        return found

    def table(self, at_most: int, value: Any) -> dict[str, Any]:
        return dict.fromkeys(self.texts(at_most), value)


def changed(recipe: Recipe, chance: Random) -> Recipe:
    """One that differs in one thing."""
    size = chance.choice([0, 1, 2, 10, 64, 100, 256, 500, 1_000, 5_000, 20_000, 60_000, 300_000])
    return replace(
        recipe,
        **chance.choice(
            [
                {"unit": chance.choice(UNITS)},
                {"unit": chance.choice(UNITS) + chance.choice(UNITS)},
                {"count": size},
                {"tail": chance.choice([*UNITS, "b", "x", ""])},
                {"width": max(1, min(size, 50_000))},
                {"depth": min(size, 200)},
            ]
        ),
    )


def read_corpus() -> list[Recipe]:
    return [Recipe(**each) for each in json.loads(CORPUS.read_text())]


def written(recipes: list[Recipe]) -> str:
    """As the corpus holds them, one a line."""
    return "[\n" + ",\n".join(json.dumps(asdict(each)) for each in recipes) + "\n]\n"


class Play:
    """Makes the requests of a recipe, for one cast."""

    def __init__(self, cast: Cast, recipe: Recipe, number: int) -> None:
        self.cast = cast
        self.recipe = recipe
        self.number = number

    def requests(self) -> Iterator[Attack]:
        yield from PLAYS[self.recipe.play](self)

    def ask(self, method: str, path: str, body: Any = None, *, by: str = "attacker", **query: str) -> Attack:
        token = getattr(self.cast, by).token
        asked = "?" + "&".join(f"{name}={quoted(value)}" for name, value in query.items()) if query else ""
        return Attack(
            f"{method} {path.split('?', maxsplit=1)[0]}: {self.recipe}",
            method,
            f"{'' if path.startswith('/_') else '/_matrix/client/v3'}{path}{asked}",
            {"Authorization": f"Bearer {token}", **(JSON if body is not None else {})},
            b"" if body is None else json.dumps(body).encode(),
        )

    def send(self, content: Any, kind: str = "m.room.message", *, by: str = "attacker") -> Attack:
        path = f"/rooms/{quoted(self.cast.room)}/send/{quoted(kind)}/w{self.number}{by}"
        return self.ask("PUT", path, content, by=by)

    def state(self, kind: str, content: Any) -> Attack:
        return self.ask("PUT", f"/rooms/{quoted(self.cast.room)}/state/{quoted(kind)}/", content)

    def sync(self, by: str = "attacker", **query: str) -> Attack:
        return self.ask("GET", "/sync", by=by, timeout="0", **query)


def quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _filter(play: Play) -> Iterator[Attack]:
    lists = {"types": play.recipe.texts(_EVENT), "not_senders": play.recipe.texts(_EVENT // 4)}
    body = {"event_fields": play.recipe.texts(_EVENT // 4), "room": {"timeline": lists, "state": lists}}
    yield play.ask("POST", f"/user/{quoted(play.cast.attacker.user_id)}/filter", body)
    small = json.dumps({"types": play.recipe.texts(3_000)})
    yield play.send({"body": "x"}, kind=play.recipe.text(200) or "a")
    yield play.ask(
        "GET", f"/rooms/{quoted(play.cast.room)}/messages", dir="b", limit="1000", filter=small[:12_000]
    )
    yield play.sync(filter=json.dumps({"room": {"timeline": {"types": play.recipe.texts(3_000)}}})[:12_000])


def _push_rule(play: Play) -> Iterator[Attack]:
    texts = play.recipe.texts(_EVENT)[:100]
    match = [{"kind": "event_match", "key": "content.body", "pattern": f"*{text}*"} for text in texts]
    keys = [{"kind": "event_property_contains", "key": f"content.{text}", "value": 1} for text in texts]
    for number in range(10):
        rule = {"actions": ["notify"], "conditions": match if number % 2 else keys}
        yield play.ask("PUT", f"/pushrules/global/override/w{number}", rule)
        pattern = {"actions": ["notify"], "pattern": play.recipe.text(1_000)}
        yield play.ask("PUT", f"/pushrules/global/content/w{number}", pattern)
    yield play.sync()
    yield play.send({"msgtype": "m.text", "body": play.recipe.text(_EVENT)}, by="victim")
    yield play.sync()
    yield play.ask("GET", "/notifications", limit="100")


def _name(play: Play) -> Iterator[Attack]:
    user = quoted(play.cast.attacker.user_id)
    condition = {"actions": ["notify"], "conditions": [{"kind": "contains_display_name"}]}
    yield play.ask("PUT", "/pushrules/global/override/name", condition)
    yield play.ask("PUT", f"/profile/{user}/displayname", {"displayname": play.recipe.text(256)})
    yield play.ask("PUT", f"/profile/{user}/org.example.x", {"org.example.x": play.recipe.value(_EVENT)})
    yield play.send({"msgtype": "m.text", "body": play.recipe.text(_EVENT)}, by="victim")
    yield play.sync()
    yield play.ask("POST", "/user_directory/search", {"search_term": play.recipe.text(_BODY)})
    yield play.ask("POST", "/publicRooms", {"filter": {"generic_search_term": play.recipe.text(_BODY)}})


def _event(play: Play) -> Iterator[Attack]:
    texts = play.recipe.texts(_EVENT)
    yield play.send({"msgtype": "m.text", "body": "x", "x": play.recipe.value(_EVENT)})
    yield play.send({"msgtype": "m.text", "body": "x", "x": play.recipe.value(_BODY)})
    yield play.send({"msgtype": "m.text", "body": "x", "x": [play.recipe.value(_EVENT), 1.5]}, kind="m.x")
    yield play.send({"msgtype": "m.text", "body": "x", "m.mentions": {"user_ids": texts}}, kind="m.y")
    relation = {
        "rel_type": play.recipe.text(_EVENT),
        "event_id": play.cast.event,
        "key": play.recipe.text(100),
    }
    yield play.send({"m.relates_to": relation}, kind="m.reaction")
    relation = {"rel_type": "m.thread", "event_id": play.recipe.text(_EVENT), "m.in_reply_to": texts}
    yield play.send({"m.relates_to": relation}, kind="m.z")
    event = quoted(play.cast.event)
    yield play.ask("GET", f"/rooms/{quoted(play.cast.room)}/relations/{event}", recurse="true", limit="100")
    yield play.sync()


def _room_state(play: Play) -> Iterator[Attack]:
    texts = play.recipe.texts(_EVENT)
    levels = play.recipe.table(_EVENT, 50)
    users = {play.cast.attacker.user_id: 100, **{f"@{text}:x": 1 for text in texts}}
    yield play.state("m.room.power_levels", {"users": users, "events": levels})
    yield play.state("m.room.power_levels", {"users": {play.recipe.text(_BODY): 1}})
    yield play.state("m.room.server_acl", {"allow": [*texts, "*"], "deny": texts})
    aliases = [f"#{text}:localhost" for text in texts]
    yield play.state("m.room.canonical_alias", {"alias": None, "alt_aliases": aliases})
    yield play.state("m.room.join_rules", {"join_rule": "public", "allow": texts})
    create = [{"type": "m.x", "state_key": text, "content": {}} for text in play.recipe.texts(_BODY // 2)]
    yield play.ask("POST", "/createRoom", {"initial_state": create[:20_000], "invite": texts})
    people = [f"@{text[:200]}:localhost" for text in texts[:200]]
    yield play.ask("POST", "/createRoom", {"initial_state": create[:200], "invite": people})
    yield play.ask(
        "POST", "/createRoom", {"power_level_content_override": {"users": users, "events": levels}}
    )
    # Whoever has made many rooms asks for all of them.
    everything = {"ranges": [[0, 999]], "timeline_limit": 100, "required_state": [["*", "*"]]}
    yield play.ask("POST", SLIDING, {"lists": {"a": everything}})
    yield play.sync(filter=json.dumps({"room": {"state": {"types": play.recipe.texts(3_000)}}})[:12_000])
    yield play.sync(full_state="true", filter=play.cast.filter)


def _account(play: Play) -> Iterator[Attack]:
    user = quoted(play.cast.attacker.user_id)
    direct = play.recipe.table(_EVENT, [play.cast.room])
    yield play.ask("PUT", f"/user/{user}/account_data/m.direct", direct)
    ignored = {"ignored_users": {f"@{text}:localhost": {} for text in play.recipe.texts(_EVENT * 5)}}
    yield play.ask("PUT", f"/user/{user}/account_data/m.ignored_user_list", ignored)
    yield play.sync()
    yield play.ask("PUT", f"/user/{user}/account_data/m.ignored_user_list", {"ignored_users": {}})
    yield play.sync()
    yield play.ask("GET", "/notifications", limit="100")
    tags = {"tags": play.recipe.table(_EVENT * 5, {"order": 0.5})}
    yield play.ask("PUT", f"/user/{user}/rooms/{quoted(play.cast.room)}/account_data/m.tag", tags)
    yield play.ask("PUT", f"/user/{user}/rooms/{quoted(play.cast.room)}/tags/u.x", {"order": 0.1})
    named = [text[:255] for text in play.recipe.texts(_EVENT)[:100]]
    rooms = {"ranges": [[0, 99]], "filters": {"is_dm": True, "not_tags": named}}
    yield play.ask(
        "POST", SLIDING, {"lists": {"a": rooms}, "extensions": {"account_data": {"enabled": True}}}
    )
    yield play.ask("PUT", f"/user/{user}/account_data/org.x", {"x": play.recipe.value(_BODY // 3)})
    mail = {"client_secret": "x", "email": play.recipe.text(_BODY) + "@example.org", "send_attempt": 1}
    yield play.ask("POST", "/account/3pid/email/requestToken", mail)
    mail = {"client_secret": "x", "email": "a@" + play.recipe.text(_BODY), "send_attempt": 1}
    yield play.ask("POST", "/account/3pid/email/requestToken", mail)
    yield play.ask("POST", "/register", {"username": play.recipe.text(_BODY), "password": "x" * 20})
    yield play.ask("GET", "/register/available", username=play.recipe.text(3_000))
    yield play.ask(
        "POST",
        "/login",
        {
            "type": "m.login.password",
            "password": "x",
            "identifier": {"type": "m.id.thirdparty", "medium": "email", "address": play.recipe.text(_BODY)},
        },
    )


def _keys(play: Play) -> Iterator[Attack]:
    user = play.cast.attacker.user_id
    texts = play.recipe.texts(_BODY // 2)
    key = {"key": "A" * 43, "signatures": {}}
    yield play.ask("POST", "/keys/upload", {"one_time_keys": {f"signed_curve25519:{t}": key for t in texts}})
    yield play.ask("POST", "/keys/upload", {"device_keys": {"x": play.recipe.value(_BODY // 2)}})
    yield play.ask("POST", "/keys/query", {"device_keys": {f"@{text}:localhost": [] for text in texts}})
    yield play.ask("POST", "/keys/query", {"device_keys": {user: texts}})
    yield play.ask(
        "POST", "/keys/claim", {"one_time_keys": {user: dict.fromkeys(texts, "signed_curve25519")}}
    )
    yield play.ask("POST", "/keys/signatures/upload", {user: {text: {} for text in texts}})
    messages = {f"@{text}:localhost": {"*": {}} for text in texts}
    to_device = f"/sendToDevice/m.x/w{play.number}"
    yield play.ask("PUT", to_device, {"messages": messages})
    yield play.ask("PUT", to_device + "b", {"messages": {user: {text: {} for text in texts}}})
    yield play.ask("PUT", to_device + "c", {"messages": {user: {"*": {"x": play.recipe.value(_EVENT)}}}})
    session = {"first_message_index": 0, "forwarded_count": 0, "is_verified": False}
    session["session_data"] = {"x": play.recipe.value(_EVENT // 2)}
    yield play.ask("PUT", "/room_keys/keys", {"rooms": {"!r:x": {"sessions": {"s": session}}}}, version="1")
    many = {f"!{text}:x": {"sessions": {"s": {**session, "session_data": {}}}} for text in texts[:5_000]}
    yield play.ask("PUT", "/room_keys/keys", {"rooms": many}, version="1")


PLAYS: dict[str, Callable[[Play], Iterator[Attack]]] = {
    "filter": _filter,
    "push_rule": _push_rule,
    "name": _name,
    "event": _event,
    "room_state": _room_state,
    "account": _account,
    "keys": _keys,
    "sliding": sliding,
    "search": search,
    "spaces": spaces,
    "later": later,
}
