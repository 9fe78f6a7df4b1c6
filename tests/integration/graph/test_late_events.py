"""Events that come long after they were sent: who is told of them, and who is not."""

from pathlib import Path
from typing import Any

import pytest

from homeserver.events.filtering import RoomEventFilter
from homeserver.matrix import json
from homeserver.matrix.ids import RoomId
from homeserver.matrix.tokens import parse_token
from homeserver.web.auth import Requester
from tests.support.forks import Fork, receive_together, state_of
from tests.support.graph import Process, process

TEXT = {"msgtype": "m.text", "body": "from before"}
VISIBILITY = "m.room.history_visibility"


async def timeline(here: Process, who: Requester, room_id: RoomId, since: str | None) -> list[str]:
    answer = await here.sync(who, since)
    room: dict[str, Any] = answer["rooms"].get("join", {}).get(room_id, {})
    return [event["event_id"] for event in room.get("timeline", {}).get("events", ())]


async def paged(here: Process, who: Requester, room_id: RoomId) -> list[str]:
    page = await here.rooms.history.messages(
        who, room_id, start=None, stop=None, backwards=True, limit=100, wanted=RoomEventFilter()
    )
    return [json.loads(event)["event_id"] for event in page.chunk]


@pytest.mark.parametrize("visibility", ["joined", "invited", "shared"])
async def test_hv_01_what_was_said_before_one_came_is_not_told_because_it_comes_late(
    database: str, tmp_path: Path, visibility: str
) -> None:
    """SYNC-01, HV-04: bob has come in; an event from before that, on a branch that he was not in, comes afterwards."""
    async with process(database, tmp_path) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, preset="public_chat")
        await here.rooms.sending.put_state(
            alice, room_id, (VISIBILITY, ""), {"history_visibility": visibility}
        )
        before = (await Fork.of(here, room_id)).branch()
        late = before.says(alice.user_id, "m.room.message", None, TEXT)
        renamed = before.says(alice.user_id, "m.room.topic", "", {"topic": "from before"})
        await here.rooms.membership.join(bob, room_id)
        tokens = {who: (await here.sync(who))["next_batch"] for who in (alice, bob)}
        await receive_together(here, room_id, late, renamed)
        merged = await here.send(alice, room_id, "after")
        told = {who: await timeline(here, who, room_id, tokens[who]) for who in (alice, bob)}
        assert told[alice] == [late.event_id, renamed.event_id, merged]
        seen = visibility == "shared"
        assert told[bob] == ([late.event_id, renamed.event_id] if seen else []) + [merged]
        assert (late.event_id in await paged(here, bob, room_id)) is seen
        here.core.rooms.reset()
        here.core.visibility.reset()
        assert (late.event_id in await timeline(here, bob, room_id, tokens[bob])) is seen
        assert (late.event_id in await paged(here, bob, room_id)) is seen


async def test_sync_04_what_fills_a_gap_is_told(database: str, tmp_path: Path) -> None:
    """FED-14: an event comes with its state told from outside; those before it come later, and are told to who syncs."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        fork = await Fork.of(here, room_id)
        theirs = fork.branch()
        missing = [theirs.says(alice.user_id, "m.room.message", None, {**TEXT, "n": n}) for n in range(3)]
        event = theirs.says(alice.user_id, "m.room.message", None, TEXT)
        since = (await here.sync(alice))["next_batch"]
        room = await here.core.rooms.known(room_id)
        given = [each.event.event_id for each in (await here.core.events.load(room.state.values())).values()]
        await receive_together(here, room_id, event, states={event.event_id: given})
        answer = await here.sync(alice, since)
        assert await timeline(here, alice, room_id, since) == [event.event_id]
        await receive_together(here, room_id, *missing)
        assert await timeline(here, alice, room_id, answer["next_batch"]) == [
            each.event_id for each in missing
        ]
        assert set(await timeline(here, alice, room_id, since)) == {
            event.event_id,
            *(each.event_id for each in missing),
        }


@pytest.mark.parametrize("remembered", [True, False])
async def test_sync_04_a_timeline_begins_behind_the_newest_gap(
    database: str, tmp_path: Path, remembered: bool
) -> None:
    """FED-14: what is missing before an event lies in no sync, so clients page for it: an initial sync, too."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        fork = await Fork.of(here, room_id)
        theirs = fork.branch()
        since = (await here.sync(alice))["next_batch"]
        first = await here.send(alice, room_id, "first")
        theirs.says(alice.user_id, "m.room.message", None, TEXT)  # never comes
        event = theirs.says(alice.user_id, "m.room.message", None, TEXT)
        room = await here.core.rooms.known(room_id)
        given = [each.event.event_id for each in (await here.core.events.load(room.state.values())).values()]
        await receive_together(here, room_id, event, states={event.event_id: given})
        last = await here.send(alice, room_id, "last")
        if not remembered:
            here.core.tail._recent.clear()
        for token in (since, None):
            answer = await here.sync(alice, token)
            told = answer["rooms"]["join"][room_id]["timeline"]
            assert [each["event_id"] for each in told["events"]] == [event.event_id, last]
            assert told["limited"]
            page = await here.rooms.history.messages(
                alice,
                room_id,
                start=parse_token(told["prev_batch"], "from"),
                stop=None,
                backwards=True,
                limit=1,
                wanted=RoomEventFilter(),
            )
            assert [json.loads(each)["event_id"] for each in page.chunk] == [first]


async def test_what_fills_a_gap_is_behind_what_it_was_missing_before(database: str, tmp_path: Path) -> None:
    """FED-14: neither a forward extremity nor the newest word on the state; what stands before it is one no longer."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        fork = await Fork.of(here, room_id)
        theirs = fork.branch()
        missing = [
            theirs.says(alice.user_id, "m.room.topic", "", {"topic": "old"}),
            theirs.says(alice.user_id, "m.room.message", None, TEXT),
        ]
        state = dict(theirs.state)
        event = theirs.says(alice.user_id, "m.room.topic", "", {"topic": "new"})
        base = (await state_of(here, room_id)).values()
        await here.core.outliers.add((await here.core.rooms.known(room_id)).name, missing[:1])
        given = [each.event_id for each in {**{e.key: e for e in base}, **state}.values()]
        await receive_together(here, room_id, event, states={event.event_id: given})
        room = await here.core.rooms.known(room_id)
        assert {ref.event_id for ref in room.extremities} == {fork.tip.event_id, event.event_id}
        since = (await here.sync(alice))["next_batch"]
        received = await receive_together(here, room_id, *missing)
        assert [each.flags for each in received] == [0, 0]
        assert await timeline(here, alice, room_id, since) == [each.event_id for each in missing]
        room = await here.core.rooms.known(room_id)
        assert [ref.event_id for ref in room.extremities] == [event.event_id]
        assert (await state_of(here, room_id))["m.room.topic", ""].event_id == event.event_id
        async with here.core.db.read() as tx:
            assert not await tx.all("SELECT * FROM backward_extremities")
        assert (await here.core.events.by_id(missing[0].event_id)) is received[0]
        await here.send(alice, room_id, "on")
        assert await here.core.receiver.receive(missing[0]) is received[0]
