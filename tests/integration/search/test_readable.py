"""Who finds what: history visibility, leaving, encryption, redactions, edits. CHECKLIST SRCH-01, HV-01, RED-07."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from tests.integration.search.test_search import pair
from tests.support.search import bodies, found, indexed, search
from tests.support.server import Server
from tests.support.user import User

IGNORED = "/user/{}/account_data/m.ignored_user_list"
ENCRYPTION = {"algorithm": "m.megolm.v1.aes-sha2"}


def edited(event_id: str, text: str) -> dict[str, Any]:
    return {
        "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
        "m.new_content": {"msgtype": "m.text", "body": text},
    }


async def edit(user: User, room: str, event_id: str, text: str) -> str:
    return await user.send(room, f"* {text}", **edited(event_id, text))


@contextlib.asynccontextmanager
async def nothing_is_indexed(server: Server) -> AsyncIterator[None]:
    """Whoever writes the index waits until the block ends."""
    async with await psycopg.AsyncConnection.connect(server.dsn) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [0x617472_736561])
        yield


async def test_only_where_one_is_or_was(server: Server) -> None:
    """SRCH-01."""
    room, alice, bob = await pair(server)
    carol, dave = await server.register("carol"), await server.register("dave")
    await alice.send(room, "narwhal one")
    await carol.join(room)
    await carol.leave(room)
    await alice.send(room, "narwhal two")
    await bob.leave(room)
    await bob.post("/rooms/{}/forget", room)
    await alice.invite(room, dave)
    await indexed(server)
    assert await bodies(alice, "narwhal") == {"narwhal one", "narwhal two"}
    assert await bodies(carol, "narwhal") == {"narwhal one"}, "she has left"
    assert await bodies(bob, "narwhal") == set(), "he has forgotten the room"
    assert await bodies(dave, "narwhal") == set(), "he was invited only"


@pytest.mark.parametrize(
    ("visibility", "seen"),
    [
        ("joined", {"dugong in"}),
        ("invited", {"dugong invited", "dugong in"}),
        ("shared", {"dugong before", "dugong invited", "dugong in"}),
        ("world_readable", {"dugong before", "dugong invited", "dugong in"}),
    ],
)
async def test_history_visibility(server: Server, visibility: str, seen: set[str]) -> None:
    """HV-01, SRCH-01: the count tells no more than the results."""
    state = {"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}
    room, alice, _ = await pair(server, initial_state=[state])
    bob = await server.register("bob")
    await alice.send(room, "dugong before")
    await alice.invite(room, bob)
    await alice.send(room, "dugong invited")
    await bob.join(room)
    await alice.send(room, "dugong in")
    await alice.ban(room, bob)
    await alice.send(room, "dugong after")
    await indexed(server)
    for step in ("banned", "joined again"):
        assert await bodies(bob, "dugong") == seen, step
        assert (await search(bob, "dugong"))["count"] == len(seen)
        context = (await search(bob, '"dugong in"', event_context={}))["results"][0]["context"]
        around = {event["content"].get("body") for event in context["events_before"]}
        assert seen - {"dugong in", "dugong after"} == {body for body in around if body}
        if step == "banned":
            await alice.unban(room, bob)
            await bob.join(room)
            seen = seen | ({"dugong after"} if visibility in {"shared", "world_readable"} else set())


async def test_many_matches_of_a_room_are_looked_at_as_few_are(server: Server) -> None:
    """HV-01: where history was never hidden, and where it once was."""
    room, alice, bob = await pair(server)
    await alice.put_state(room, "m.room.history_visibility", {"history_visibility": "joined"})
    carol = await server.register("carol")
    for n in range(25):
        await alice.send(room, f"manatee {n}")
    await carol.join(room)
    for n in range(25):
        await alice.send(room, f"manatee late {n}")
    await indexed(server)
    assert (await search(bob, "manatee"))["count"] == 50
    assert (await search(carol, "manatee"))["count"] == 25
    open_room, dora, erik = await pair(server)
    for n in range(25):
        await dora.send(open_room, f"beluga {n}")
    await indexed(server)
    assert (await search(erik, "beluga"))["count"] == 25


async def test_a_room_that_replaced_another_stands_for_both(server: Server) -> None:
    """SRCH-01: named in a filter, it finds what was said before the upgrades."""
    room, alice, bob = await pair(server)
    stranger = await server.register("carol")
    elsewhere = await stranger.create_room()
    await stranger.send(elsewhere, "auroch elsewhere")
    await alice.send(room, "auroch one")
    rooms = [room]
    for n in ("two", "three"):
        reply = await alice.post("/rooms/{}/upgrade", rooms[-1], json={"new_version": "11"})
        rooms.append(reply["replacement_room"])
        await alice.send(rooms[-1], f"auroch {n}")
    await bob.join(rooms[2])
    claimed = {"predecessor": {"room_id": elsewhere, "event_id": "$x"}}
    claiming = await alice.create_room(creation_content=claimed)
    await alice.send(claiming, "auroch four")
    await indexed(server)

    async def within(user: User, room_id: str, **more: Any) -> set[str]:
        return await bodies(user, "auroch", filter={"rooms": [room_id], **more})

    assert await within(alice, rooms[2]) == {"auroch one", "auroch two", "auroch three"}
    assert await within(alice, rooms[0]) == {"auroch one"}
    assert await within(alice, rooms[2], not_rooms=[rooms[1]]) == {"auroch one", "auroch three"}
    assert await within(alice, claiming) == {"auroch four"}, "whatever a room claims"
    assert await within(bob, rooms[2]) == {"auroch three"}, (
        "he was never in the second one, so knows of no first"
    )


async def test_a_room_that_becomes_encrypted_is_searched_no_more(server: Server) -> None:
    """SRCH-01: at once, and what it said leaves the index."""
    room, alice, bob = await pair(server, name="Quokka room")
    await alice.send(room, "quokka")
    await indexed(server)
    assert len(found(await search(bob, "quokka"))) == 2
    async with nothing_is_indexed(server):
        await alice.put_state(room, "m.room.encryption", ENCRYPTION)
        assert found(await search(bob, "quokka")) == []
    await alice.send(room, "quokka, by somebody who does not encrypt")
    await indexed(server)
    assert found(await search(bob, "quokka")) == []
    assert await entries(server, room) == 0


async def entries(server: Server, room: str) -> int:
    async with await psycopg.AsyncConnection.connect(server.dsn) as connection:
        row = await (
            await connection.execute(
                "SELECT count(*) FROM search_entries JOIN rooms USING (room_nid) WHERE room_id = %s", [room]
            )
        ).fetchone()
    return int(row[0]) if row else 0


async def test_what_is_redacted_is_gone_at_once(server: Server) -> None:
    """RED-07, SRCH-01: before the index has heard of it, and when it hears of the message later than of the redaction."""
    room, alice, bob = await pair(server)
    first = await alice.send(room, "capybara secret")
    await indexed(server)
    before = await entries(server, room)
    async with nothing_is_indexed(server):
        second = await alice.send(room, "capybara secret again")
        await alice.redact(room, first)
        answer = await search(bob, "capybara")
        assert (found(answer), answer["count"], answer["highlights"]) == ([], 0, [])
        assert await entries(server, room) == before - 1
        await alice.redact(room, second)
    await indexed(server)
    assert found(await search(bob, "capybara")) == []
    assert await entries(server, room) == before - 1


async def test_the_newest_text_counts(server: Server) -> None:
    """SRCH-01: an edit is found as the message it changes, an old text no more; a redacted edit never was."""
    room, alice, bob = await pair(server)
    original = await alice.send(room, "the axolotl is green")
    await indexed(server)
    async with nothing_is_indexed(server):
        first = await edit(alice, room, original, "the axolotl is blue")
        assert found(await search(bob, "axolotl green")) == [], "before the index has heard of it"
    await indexed(server)
    assert found(await search(bob, "axolotl green")) == []
    answer = await search(bob, "axolotl blue")
    assert found(answer) == [original]
    assert answer["highlights"] == ["axolotl", "blue"]
    (result,) = answer["results"]
    assert result["result"]["content"]["body"] == "the axolotl is green"
    assert result["result"]["unsigned"]["m.relations"]["m.replace"]["event_id"] == first
    second = await edit(alice, room, original, "the axolotl is red")
    await edit(bob, room, original, "the axolotl is his")
    await alice.send(
        room, "* no", **{"m.relates_to": {"rel_type": "m.replace", "event_id": original}}
    )  # says nothing new
    await indexed(server)
    assert found(await search(bob, "axolotl red")) == [original]
    assert found(await search(bob, "axolotl his")) == []
    async with nothing_is_indexed(server):
        await alice.redact(room, second)
        assert found(await search(bob, "axolotl red")) == [], "at once"
    await indexed(server)
    assert found(await search(bob, "axolotl red")) == []
    assert found(await search(bob, "axolotl blue")) == [original]
    await alice.redact(room, original)
    await indexed(server)
    assert found(await search(bob, "axolotl")) == []


async def test_who_left_before_an_edit_does_not_find_by_it(server: Server) -> None:
    """HV-01."""
    room, alice, bob = await pair(server)
    original = await alice.send(room, "ocelot plain")
    await bob.leave(room)
    await edit(alice, room, original, "ocelot spotted")
    await indexed(server)
    assert found(await search(alice, "spotted")) == [original]
    assert found(await search(bob, "spotted")) == []


async def test_what_is_purged_is_gone_at_once(server: Server) -> None:
    """SRCH-01: whoever deletes an event."""
    room, alice, bob = await pair(server)
    gone, edited_one = await alice.send(room, "pangolin old"), await alice.send(room, "pangolin kept")
    change = await edit(alice, room, edited_one, "pangolin changed")
    await indexed(server)
    assert len(found(await search(bob, "pangolin"))) == 2
    async with nothing_is_indexed(server), await psycopg.AsyncConnection.connect(server.dsn) as connection:
        await connection.execute("DELETE FROM events WHERE event_id = ANY(%s)", [[gone, change]])
        await connection.commit()
        answer = await search(bob, "pangolin")
        assert (found(answer), answer["count"]) == ([], 0)


async def test_people_who_are_ignored_are_not_found(server: Server) -> None:
    """SRCH-01."""
    room, alice, bob = await pair(server)
    await alice.send(room, "kinkajou by alice")
    await bob.send(room, "kinkajou by bob")
    await indexed(server)
    await alice.put(IGNORED, alice.user_id, json={"ignored_users": {bob.user_id: {}}})
    assert await bodies(alice, "kinkajou") == {"kinkajou by alice"}


async def test_what_the_erased_have_said_is_found_by_who_was_there(server: Server) -> None:
    """SRCH-01, AUTH-29."""
    room, alice, bob = await pair(server)
    await bob.send(room, "numbat by bob")
    carol = await server.register("carol")
    await carol.join(room)
    await indexed(server)
    assert await bodies(carol, "numbat") == {"numbat by bob"}
    auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": bob.user_id}}
    question = await bob.post("/account/deactivate", json={"erase": True}, expect=401)
    auth |= {"password": bob.password, "session": question["session"]}
    await bob.post("/account/deactivate", json={"erase": True, "auth": auth})
    assert await bodies(alice, "numbat") == {"numbat by bob"}
    assert await bodies(carol, "numbat") == set()
    for n in range(30):
        await alice.send(room, f"numbat {n}")
    await indexed(server)
    assert (await search(carol, "numbat"))["count"] == 30


async def test_all_at_once(server: Server) -> None:
    """SRCH-01: searches beside each other, and beside what is said."""
    room, alice, bob = await pair(server)
    await asyncio.gather(*(alice.send(room, f"gharial {n}") for n in range(30)))
    await indexed(server)
    answers = await asyncio.gather(*(search(bob, "gharial") for _ in range(10)))
    assert all(answer["count"] == 30 for answer in answers)
