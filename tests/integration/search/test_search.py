"""Searching messages: CHECKLIST section 18 (SRCH-01, SRCH-02)."""

from typing import Any

import pytest

from tests.support.search import bodies, found, indexed, search
from tests.support.server import Server
from tests.support.user import User


async def pair(server: Server, **options: Any) -> tuple[str, User, User]:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", **options)
    await bob.join(room)
    return room, alice, bob


async def test_a_message_is_found_by_its_words(server: Server) -> None:
    """SRCH-01: all of them, in any order, the last one by its beginning."""
    room, alice, bob = await pair(server)
    told = await alice.send(room, "The quarterly Budget, finally!")
    await alice.send(room, "Nothing of interest")
    await indexed(server)
    for term in ("budget", "BUDGET quarterly", "quarterly budg", "the finally"):
        assert found(await search(bob, term)) == [told], term
    for term in ("budgets", "quarter budget", "budget nothing", ""):
        assert found(await search(bob, term)) == [], term
    answer = await search(bob, "budg")
    assert answer["count"] == 1
    assert answer["highlights"] == ["Budget"]
    result = answer["results"][0]
    assert result["rank"] > 0
    assert result["result"]["room_id"] == room
    assert result["result"]["content"]["body"] == "The quarterly Budget, finally!"
    assert "context" not in result
    assert "next_batch" not in answer
    assert "groups" not in answer
    assert "state" not in answer


async def test_what_was_said_just_now_is_found(server: Server) -> None:
    """SRCH-01: without waiting for the index."""
    assert server.app is not None
    server.app.features.search.lately.longest = 20.0
    room, alice, bob = await pair(server)
    for number in range(5):
        told = await alice.send(room, f"quokka{number}")
        assert found(await search(bob, f"quokka{number}")) == [told]


@pytest.mark.parametrize(
    ("text", "terms", "others"),
    [
        ("Déjà vu à Łódź", ["deja", "DÉJÀ VU", "lodz", "Łód"], ["deja-v"]),
        ("Straße nach Köln", ["strasse", "STRASSE", "koln", "köln"], ["strase"]),
        ("Привет, мир", ["привет", "МИР", "прив"], ["приве мир"]),
        ("Καλημέρα κόσμε", ["καλημερα", "κοσμε"], []),
        ("שָׁלוֹם עולם", ["שלום", "עולם"], []),
        ("السَّلَامُ عليكم", ["السلام"], []),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनि"], ["नमस दुनिया"]),
        ("東京都に住んでいます", ["東京", "京都", "東京都", "住んで", "都", "東京 住ん"], ["京東", "東都"]),
        ("今天天气很好", ["天气", "今天天气", "好", "很好"], ["今气"]),
        ("カタカナ テスト", ["ｶﾀｶﾅ", "テスト", "カタ"], ["ハタカナ"]),
        ("안녕하세요 여러분", ["안녕", "하세요", "여러분", "안녕하세요"], ["안하"]),
        ("วันนี้อากาศดีมาก", ["อากาศ", "วันนี้", "ดีมาก"], ["ดีวัน"]),
        ("iPhoneを買いました", ["iphone", "iPhoneを", "買いました", "iphon"], ["phone"]),
        (
            "see well-known/report_final.pdf",
            ["report", "final.pdf", "well-known", "report_fin"],
            ["known-well"],
        ),
        ("\uff26\uff35\uff2c\uff2c \uff57\uff49\uff44\uff54\uff48", ["full width"], []),
        ("I don't know", ["don't", "don\u2019t"], []),
    ],
)
async def test_words_of_many_languages(
    server: Server, text: str, terms: list[str], others: list[str]
) -> None:
    """SRCH-01: case, accents, width, scripts without spaces."""
    room, alice, _ = await pair(server)
    await alice.send(room, "hello world")
    told = await alice.send(room, text)
    await indexed(server)
    for term in terms:
        answer = await search(alice, term)
        assert found(answer) == [told], term
        assert answer["highlights"], term
        assert all(word in text for word in answer["highlights"]), answer["highlights"]
    for term in others:
        assert found(await search(alice, term)) == [], term


async def test_words_in_quotes_follow_each_other(server: Server) -> None:
    """SRCH-01."""
    room, alice, _ = await pair(server)
    one = await alice.send(room, "we meet at noon on Monday")
    other = await alice.send(room, "Monday we meet, noon at the latest")
    await indexed(server)
    assert set(found(await search(alice, "meet noon monday"))) == {one, other}
    assert found(await search(alice, '"meet at noon"')) == [one]
    assert found(await search(alice, "„meet at noon“ monday")) == [one]
    assert found(await search(alice, '"at no"')) == [], "what is in quotes is whole"
    assert found(await search(alice, '"meet at no')) == [one], "unless it is still being typed"


async def test_files_names_and_topics(server: Server) -> None:
    """SRCH-01: each key by itself, and all of them unless told."""
    room, alice, _ = await pair(server, name="Zeppelin hangar", topic="All about zeppelins")
    image = {"msgtype": "m.image", "body": "a zeppelin", "filename": "LZ129-photo.jpg", "url": "mxc://x/y"}
    picture = await alice.send_event(room, "m.room.message", image)
    told = await alice.send(room, "a zeppelin again")
    rich = {"topic": "plain", "m.topic": {"m.text": [{"body": "richer zeppelin words"}]}}
    topic = await alice.put_state(room, "m.room.topic", rich)
    await indexed(server)
    everything = await search(alice, "zeppelin")
    assert len(found(everything)) == 5
    assert found(await search(alice, "photo")) == [picture]
    assert set(found(await search(alice, "zeppelin", keys=["content.body"]))) == {picture, told}
    named = await search(alice, "zeppelin", keys=["content.name"])
    assert [each["result"]["type"] for each in named["results"]] == ["m.room.name"]
    topics = await search(alice, "zeppelin", keys=["content.topic"])
    assert {each["result"]["type"] for each in topics["results"]} == {"m.room.topic"}
    assert topic in found(topics)
    assert found(await search(alice, "zeppelin", keys=[])) == []


async def test_what_a_reply_quotes_is_not_said_by_it(server: Server) -> None:
    """SRCH-01."""
    room, alice, bob = await pair(server)
    first = await alice.send(room, "where is the umbrella")
    relates = {"m.relates_to": {"m.in_reply_to": {"event_id": first}}}
    answer = await bob.send(room, f"> <{alice.user_id}> where is the umbrella\n\nbehind the door", **relates)
    await indexed(server)
    assert found(await search(alice, "umbrella")) == [first]
    assert found(await search(alice, "door")) == [answer]


async def test_filters(server: Server) -> None:
    """SRCH-01: rooms, senders, types, urls."""
    room, alice, bob = await pair(server, name="pelican")
    other = await alice.create_room()
    one = await alice.send(room, "pelican one")
    two = await bob.send(room, "pelican two")
    three = await alice.send(other, "pelican three")
    content = {"msgtype": "m.file", "body": "pelican.pdf", "url": "mxc://x/y"}
    four = await alice.send_event(other, "m.room.message", content)
    await indexed(server)

    async def ids(**wanted: Any) -> set[str]:
        return set(found(await search(alice, "pelican", keys=["content.body"], filter=wanted)))

    assert await ids() == {one, two, three, four}
    assert await ids(rooms=[room]) == {one, two}
    assert await ids(not_rooms=[room]) == {three, four}
    assert await ids(rooms=[room], not_rooms=[room]) == set()
    assert await ids(rooms=[]) == set()
    assert await ids(rooms=["!elsewhere:example.org", "nonsense"]) == set()
    assert await ids(senders=[bob.user_id]) == {two}
    assert await ids(not_senders=[bob.user_id]) == {one, three, four}
    assert await ids(senders=["@nobody:example.org"]) == set()
    assert await ids(contains_url=True) == {four}
    assert await ids(contains_url=False) == {one, two, three}
    assert await ids(types=["m.room.name"]) == set()
    assert await ids(types=["m.room.*"], not_types=["m.room.name"]) == {one, two, three, four}
    named = await search(alice, "pelican", filter={"types": ["m.room.name"]})
    assert [each["result"]["type"] for each in named["results"]] == ["m.room.name"]
    assert len(found(await search(alice, "pelican", filter={"limit": 2}))) == 2


async def test_order(server: Server) -> None:
    """SRCH-02: by rank unless told, or the newest first."""
    room, alice, _ = await pair(server)
    much = await alice.send(room, "walrus walrus walrus")
    little = await alice.send(
        room, "one walrus in a sea of so many other words that hardly anybody would care"
    )
    some = await alice.send(room, "a walrus")
    await indexed(server)
    assert found(await search(alice, "walrus", order_by="recent")) == [some, little, much]
    ranked = await search(alice, "walrus")
    assert found(ranked)[0] == much
    ranks = [each["rank"] for each in ranked["results"]]
    assert ranks == sorted(ranks, reverse=True)


async def test_context(server: Server) -> None:
    """SRCH-02: events around, tokens to go on with, and what people were called then."""
    room, alice, bob = await pair(server)
    name = alice.localpart
    ids = [await alice.send(room, f"number {n}") for n in range(3)]
    target = await bob.send(room, "the okapi is here")
    ids += [await alice.send(room, f"number {n}") for n in range(3, 6)]
    await alice.put("/profile/{}/displayname", alice.user_id, json={"displayname": "Somebody Else"})
    await indexed(server)
    context = {"before_limit": 2, "after_limit": 1, "include_profile": True}
    answer = await search(bob, "okapi", event_context=context)
    (result,) = answer["results"]
    around = result["context"]
    assert [event["event_id"] for event in around["events_before"]] == [ids[2], ids[1]]
    assert [event["event_id"] for event in around["events_after"]] == [ids[3]]
    assert around["profile_info"][alice.user_id]["displayname"] == name
    assert set(around["profile_info"]) == {alice.user_id, bob.user_id}
    back = await bob.messages(room, from_=around["start"], limit=1)
    assert back["chunk"][0]["event_id"] == ids[0]
    forth = await bob.messages(room, from_=around["end"], dir="f", limit=1)
    assert forth["chunk"][0]["event_id"] == ids[4]
    (result,) = (await search(bob, "okapi", event_context={}))["results"]
    assert len(result["context"]["events_before"]) == 5
    assert len(result["context"]["events_after"]) == 4
    assert "profile_info" not in result["context"]
    context = {"before_limit": 0, "after_limit": 0}
    (result,) = (await search(bob, "okapi", event_context=context))["results"]
    assert result["context"]["events_before"] == result["context"]["events_after"] == []
    assert target == result["result"]["event_id"]


async def test_state(server: Server) -> None:
    """SRCH-02: of each room in the results; of rooms one has left as it was then."""
    room, alice, bob = await pair(server, name="before")
    await alice.send(room, "the marmot sleeps")
    await bob.leave(room)
    await alice.put_state(room, "m.room.name", {"name": "after"})
    await indexed(server)

    def name(answer: dict[str, Any]) -> str:
        (only,) = answer["state"]
        assert only == room
        return next(e["content"]["name"] for e in answer["state"][room] if e["type"] == "m.room.name")

    assert name(await search(alice, "marmot", include_state=True)) == "after"
    assert name(await search(bob, "marmot", include_state=True)) == "before"
    assert (await search(alice, "nothing of this", include_state=True))["state"] == {}


async def every(user: User, term: str, token: str | None = None, **criteria: Any) -> list[str]:
    """All pages from a token on."""
    ids: list[str] = []
    while True:
        answer = await search(user, term, next_batch=token, **criteria)
        ids += found(answer)
        token = answer.get("next_batch")
        if token is None:
            return ids


async def test_a_full_page_has_a_token_and_what_is_not_full_is_the_last(server: Server) -> None:
    """SRCH-02."""
    room, alice, _ = await pair(server)
    ids = [await alice.send(room, f"numbat {n}") for n in range(4)]
    await indexed(server)
    criteria: dict[str, Any] = {"order_by": "recent", "filter": {"limit": 2}}
    first = await search(alice, "numbat", **criteria)
    second = await search(alice, "numbat", next_batch=first["next_batch"], **criteria)
    assert found(first) + found(second) == ids[::-1]
    third = await search(alice, "numbat", next_batch=second["next_batch"], **criteria)
    assert (found(third), third["count"], "next_batch" in third) == ([], 4, False)
    rest = await search(alice, "numbat", order_by="recent", filter={"limit": 5})
    assert "next_batch" not in rest


@pytest.mark.parametrize("order", ["rank", "recent"])
async def test_pages(server: Server, order: str) -> None:
    """SRCH-02: each result once, whatever is said, redacted or left meanwhile."""
    room, alice, bob = await pair(server)
    ids = [await alice.send(room, "ibex " * (1 + n % 3) + "x" * n) for n in range(11)]
    await indexed(server)
    criteria: dict[str, Any] = {"order_by": order, "filter": {"limit": 4}}
    whole = found(await search(alice, "ibex", order_by=order, filter={"limit": 50}))
    assert sorted(whole) == sorted(ids)
    assert await every(alice, "ibex", **criteria) == whole
    first = await search(alice, "ibex", **criteria)
    assert first["count"] == 11
    assert found(first) == whole[:4]
    for _ in range(3):
        await bob.send(room, "ibex ibex ibex ibex")
    await alice.redact(room, whole[1])
    await alice.redact(room, whole[6])
    await indexed(server)
    second = await search(alice, "ibex", next_batch=first["next_batch"], **criteria)
    assert second["count"] == 11
    rest = await every(alice, "ibex", first["next_batch"], **criteria)
    assert rest == [each for each in whole[4:] if each != whole[6]]


async def test_groups(server: Server) -> None:
    """SRCH-02: by room and by sender, each with a token of its own."""
    room, alice, bob = await pair(server)
    other = await alice.create_room()
    mine = [await alice.send(room, f"lemur {n}") for n in range(4)]
    others = [await alice.send(other, f"lemur {n}") for n in range(3)]
    bobs = [await bob.send(room, f"lemur {n}") for n in range(2)]
    await indexed(server)
    by = {"group_by": [{"key": "room_id"}, {"key": "sender"}, {"key": "sender"}]}
    criteria: dict[str, Any] = {"order_by": "recent", "groupings": by, "filter": {"limit": 4}}
    answer = await search(alice, "lemur", **criteria)
    assert found(answer) == [*bobs[::-1], others[2], others[1]]
    rooms, senders = answer["groups"]["room_id"], answer["groups"]["sender"]
    assert rooms[room]["results"] == bobs[::-1]
    assert rooms[other]["results"] == [others[2], others[1]]
    assert rooms[room]["order"] < rooms[other]["order"]
    assert senders[bob.user_id]["results"] == bobs[::-1]
    assert "next_batch" not in senders[bob.user_id]
    assert await every(alice, "lemur", rooms[other]["next_batch"], **criteria) == [others[0]]
    assert await every(alice, "lemur", rooms[room]["next_batch"], **criteria) == mine[::-1]
    by_sender = await every(alice, "lemur", senders[alice.user_id]["next_batch"], **criteria)
    assert by_sender == [others[0], *mine[::-1]]
    assert await every(alice, "lemur", **criteria) == [*bobs[::-1], *others[::-1], *mine[::-1]]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"search_categories": None},
        {"search_categories": {"room_events": {}}},
        {"search_categories": {"room_events": {"search_term": 1}}},
        {"search_categories": {"room_events": {"search_term": "x" * 1001}}},
        {"search_categories": {"room_events": {"search_term": "x", "keys": ["content.other"]}}},
        {"search_categories": {"room_events": {"search_term": "x", "order_by": "size"}}},
        {"search_categories": {"room_events": {"search_term": "x", "filter": {"limit": -1}}}},
        {"search_categories": {"room_events": {"search_term": "x", "filter": {"types": ["*" * 300]}}}},
        {"search_categories": {"room_events": {"search_term": "x", "event_context": {"before_limit": -1}}}},
        {
            "search_categories": {
                "room_events": {"search_term": "x", "groupings": {"group_by": [{"key": "age"}]}}
            }
        },
    ],
)
async def test_nonsense_is_refused(server: Server, body: dict[str, Any]) -> None:
    """SRCH-01: 400, as documented."""
    alice = await server.register("alice")
    await alice.post("/search", json=body, expect=(400, None))


@pytest.mark.parametrize("token", ["nonsense", "", "WzFd", "WyJyYW5rIl0", "ä", "x" * 5000])
async def test_tokens_of_nobody_are_refused(server: Server, token: str) -> None:
    """SRCH-02."""
    alice = await server.register("alice")
    await search(alice, "x", next_batch=token, expect=(400, "M_INVALID_PARAM"))


async def test_a_token_of_another_order_is_refused(server: Server) -> None:
    """SRCH-02."""
    room, alice, _ = await pair(server)
    for n in range(2):
        await alice.send(room, f"tapir {n}")
    await indexed(server)
    token = (await search(alice, "tapir", filter={"limit": 1}))["next_batch"]
    await search(alice, "tapir", order_by="recent", next_batch=token, expect=(400, "M_INVALID_PARAM"))


async def test_no_category_no_answer(server: Server) -> None:
    """SRCH-01."""
    alice = await server.register("alice")
    assert await alice.post("/search", json={"search_categories": {}}) == {"search_categories": {}}


async def test_what_nobody_can_type_is_not_found(server: Server) -> None:
    """SRCH-01: marks of the index, operators of its language."""
    room, alice, _ = await pair(server)
    told = await alice.send(room, "quagga : * & | ! ( ) ' \\ <->")
    await indexed(server)
    for term in (".r1", "' & .a0", ":*", "!", "'", "\\", "&|"):
        assert found(await search(alice, term)) == [], term
    assert found(await search(alice, "quagga' | 'x")) == []
    assert found(await search(alice, "quagga:*")) == [told]


async def test_searches_are_limited(start_server: Any) -> None:
    """SRCH-01: 429, as documented (API-08)."""
    server = await start_server(rate_limits={"enabled": True, "search": {"per_second": 0.01, "burst": 2}})
    alice = await server.register("alice")
    for _ in range(2):
        assert await bodies(alice, "anything") == set()
    await search(alice, "anything", expect=(429, "M_LIMIT_EXCEEDED"))
