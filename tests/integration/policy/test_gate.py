"""Whatever is to be written to a room passes the policy gate first: from here, from elsewhere, in one process or two."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeserver.graph.refs import SOFT_FAILED
from homeserver.log.causes import KEEP_MS
from homeserver.log.forgetting import Forgetting
from homeserver.matrix.errors import Forbidden, MatrixError, Unavailable, UserSuspended
from homeserver.matrix.ids import RoomAlias, RoomId, UserId
from homeserver.policy.types import ALLOW, Act, Allow, Check, Kind, Refuse, Verdict
from homeserver.rooms.creation import CreateRoom, StateEvent
from homeserver.web.auth import Requester
from tests.support.forks import Fork, receive
from tests.support.graph import Process, process
from tests.support.outbound import until

TEXT = {"msgtype": "m.text", "body": "x"}
Do = Callable[[Process, Requester, Requester, RoomId], Awaitable[object]]


class Said(MatrixError):
    """An error of a check's own choice."""

    status = 451
    errcode = "ORG_EXAMPLE_NO"


class Switch:
    """A check that answers what the test says."""

    def __init__(self, *kinds: Kind, **options: Any) -> None:
        self.verdict: Verdict | Callable[[Act], Awaitable[Verdict]] = ALLOW
        self.acts: list[Act] = []
        self.check = Check(
            name="switch",
            kinds=set(kinds or Kind),
            decide=self._decide,
            **{"when_failing": "refuse", **options},
        )

    async def _decide(self, act: Act) -> Verdict:
        self.acts.append(act)
        return await self.verdict(act) if callable(self.verdict) else self.verdict


async def column(here: Process, sql: str) -> list[Any]:
    async with here.core.db.read() as tx:
        return await tx.column(sql)  # type: ignore[arg-type]  # written in the test


ACTS: dict[str, tuple[Kind, Do]] = {
    "message": (Kind.MESSAGE, lambda h, a, b, r: h.send(a, r, "x")),
    "annotation": (
        Kind.MESSAGE,
        lambda h, a, b, r: h.rooms.sending.send(
            a,
            r,
            "m.reaction",
            "t",
            {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$x", "key": "k"}},
        ),
    ),
    "state": (
        Kind.STATE,
        lambda h, a, b, r: h.rooms.sending.put_state(a, r, ("m.room.topic", ""), {"topic": "x"}),
    ),
    "invite": (Kind.INVITE, lambda h, a, b, r: h.rooms.membership.invite(a, r, b.user_id)),
    "invite as state": (
        Kind.INVITE,
        lambda h, a, b, r: h.rooms.sending.put_state(
            a, r, ("m.room.member", b.user_id), {"membership": "invite"}
        ),
    ),
    "invite with a room": (Kind.INVITE, lambda h, a, b, r: h.room(a, invite=[b.user_id])),
    "invite as initial state": (
        Kind.INVITE,
        lambda h, a, b, r: h.room(
            a, initial_state=[StateEvent("m.room.member", {"membership": "invite"}, b.user_id)]
        ),
    ),
    "join": (Kind.JOIN, lambda h, a, b, r: h.rooms.membership.join(b, r)),
    "join as state": (
        Kind.JOIN,
        lambda h, a, b, r: h.rooms.sending.put_state(
            b, r, ("m.room.member", b.user_id), {"membership": "join"}
        ),
    ),
    "knock": (Kind.MEMBERSHIP, lambda h, a, b, r: h.rooms.membership.knock(b, r)),
    "leave": (Kind.MEMBERSHIP, lambda h, a, b, r: h.rooms.membership.leave(a, r)),
    "kick": (Kind.MEMBERSHIP, lambda h, a, b, r: h.rooms.membership.kick(a, r, b.user_id)),
    "ban": (Kind.MEMBERSHIP, lambda h, a, b, r: h.rooms.membership.ban(a, r, b.user_id)),
    "unban": (Kind.MEMBERSHIP, lambda h, a, b, r: h.rooms.membership.unban(a, r, b.user_id)),
    "create": (Kind.CREATE, lambda h, a, b, r: h.room(a)),
    "upgrade": (Kind.CREATE, lambda h, a, b, r: h.rooms.upgrades.upgrade(a, r, "11", [])),
    "name of a new room": (Kind.STATE, lambda h, a, b, r: h.room(a, name="x")),
    "state of a new room": (Kind.STATE, lambda h, a, b, r: h.room(a, initial_state=[StateEvent("a.b", {})])),
    "alias": (Kind.ALIAS, lambda h, a, b, r: h.rooms.aliases.put(a, RoomAlias("#x:localhost"), r)),
    "alias of a new room": (Kind.ALIAS, lambda h, a, b, r: h.room(a, room_alias_name="x")),
    "publishing a new room": (Kind.PUBLISH, lambda h, a, b, r: h.room(a, visibility="public")),
}


@pytest.mark.parametrize("name", ACTS)
async def test_whatever_is_refused_is_told_in_the_words_of_the_check_and_not_written(
    database: str, tmp_path: Path, name: str
) -> None:
    kind, do = ACTS[name]
    switch = Switch(kind)
    async with process(database, tmp_path, policy=[switch.check]) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, preset="public_chat")
        before, switch.acts = here.core.tail.position, []
        switch.verdict = Refuse(Said("not with us"))
        with pytest.raises(Said, match="not with us"):
            await do(here, alice, bob, room_id)
        assert here.core.tail.position == before
        assert [act.kind for act in switch.acts] == [kind]
        assert switch.acts[0].requester in (alice, bob)
        assert await column(here, "SELECT alias FROM room_aliases") == []


async def test_redactions_are_refused_with_their_target_known(database: str, tmp_path: Path) -> None:
    switch = Switch(Kind.REDACTION)
    async with process(database, tmp_path, policy=[switch.check]) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        said = await here.send(alice, room_id, "x")
        switch.verdict = Refuse(Said("it stays"))
        for number, send in enumerate(("redact", "send")):
            with pytest.raises(Said):
                if send == "redact":
                    await here.rooms.sending.redact(alice, room_id, said, f"t{number}", {})
                else:
                    await here.rooms.sending.send(alice, room_id, "m.room.redaction", "u", {"redacts": said})
        assert {act.target for act in switch.acts} == {alice.user_id}
        assert await column(here, "SELECT redacted_by FROM events WHERE redacted_by IS NOT NULL") == []


async def test_a_slow_check_holds_its_own_sender_alone_and_is_asked_once_per_request(
    database: str, tmp_path: Path
) -> None:
    """Others write to the room meanwhile; the message is built on the room as it is when it has passed."""
    switch, goes_on = Switch(Kind.MESSAGE), asyncio.Event()

    async def slow(act: Act) -> Verdict:
        if act.content["body"] == "slow":
            await goes_on.wait()
        return ALLOW

    switch.verdict = slow
    async with process(database, tmp_path, policy=[switch.check]) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, preset="public_chat")
        await here.rooms.membership.join(bob, room_id)
        first = asyncio.create_task(here.send(alice, room_id, "slow", "t"))
        again = asyncio.create_task(here.send(alice, room_id, "slow", "t"))
        await until(lambda: bool(switch.acts))
        await until(lambda: here.core.db.used == 0)  # nothing is held while a check waits
        fast = await here.send(bob, room_id, "fast")
        goes_on.set()
        assert await first == await again == await here.send(alice, room_id, "slow", "t")
        assert [act.content["body"] for act in switch.acts] == ["slow", "fast"]
        late = await here.core.events.by_id(await first)  # type: ignore[arg-type]  # an EventId
        assert late is not None
        assert list(late.event.prev_event_ids) == [fast]


async def test_who_was_removed_while_the_check_waited_sends_nothing(database: str, tmp_path: Path) -> None:
    switch, goes_on = Switch(Kind.MESSAGE), asyncio.Event()

    async def slow(act: Act) -> Verdict:
        del act
        await goes_on.wait()
        return ALLOW

    switch.verdict = slow
    async with process(database, tmp_path, policy=[switch.check]) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, preset="public_chat")
        await here.rooms.membership.join(bob, room_id)
        sending = asyncio.create_task(here.send(bob, room_id, "too late"))
        await until(lambda: bool(switch.acts))
        await here.rooms.membership.kick(alice, room_id, bob.user_id)
        goes_on.set()
        with pytest.raises(Forbidden):
            await sending


@pytest.mark.parametrize("when_failing", ["refuse", "allow"])
@pytest.mark.parametrize("how", ["raises", "hangs"])
async def test_a_check_that_fails(database: str, tmp_path: Path, when_failing: str, how: str) -> None:
    switch = Switch(Kind.MESSAGE, when_failing=when_failing, timeout=0.05)

    async def bad(act: Act) -> Verdict:
        if how == "hangs":
            await asyncio.Event().wait()
        raise OSError(act.kind)

    async with process(database, tmp_path, policy=[switch.check]) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        switch.verdict = bad
        if when_failing == "allow":
            await here.send(alice, room_id, "goes on")
            return
        with pytest.raises(Unavailable):
            await here.send(alice, room_id, "x", "t")
        switch.verdict = ALLOW
        assert await here.send(alice, room_id, "x", "t"), "the same request, when the check is well again"


async def test_labels_are_kept_in_the_transaction_of_what_they_are_about(
    database: str, tmp_path: Path
) -> None:
    """Also of a room that is made; and what the second process writes, on what it was told by the first."""
    switches = [Switch(Kind.MESSAGE, Kind.CREATE) for _ in range(2)]
    async with (
        process(database, tmp_path, alone=False, policy=[switches[0].check]) as one,
        process(database, tmp_path, alone=False, policy=[switches[1].check]) as two,
    ):
        alice = await one.user("alice")
        switches[0].verdict = Allow(("template",))
        room_id = await one.room(alice)
        made = await column(one, "SELECT count(*) FROM log_labels WHERE label = 'template'")
        assert made == await column(one, "SELECT count(*) FROM events")
        switches[0].verdict, switches[1].verdict = Allow(("pii", "internal")), Allow(("partner",))
        first = await one.send(alice, room_id, "12.3.1970")
        await two.core.tail.fresh()
        second = await two.send(alice, room_id, "to them", "other")
        sql = """
            SELECT event_id || ' ' || string_agg(label, ',' ORDER BY label) FROM events
            JOIN log_labels ON position = event_nid WHERE label <> 'template' GROUP BY event_nid ORDER BY event_nid
        """
        assert await column(one, sql) == [f"{first} internal,pii", f"{second} partner"]
        switches[1].verdict = Refuse(Said("no more"))
        with pytest.raises(Said):
            await two.send(alice, room_id, "x", "third")
        await one.send(alice, room_id, "each process asks its own checks", "fourth")


async def test_an_event_from_elsewhere_that_is_refused_reaches_nobody_and_stops_nothing(
    database: str, tmp_path: Path
) -> None:
    """It is soft failed: later events of its server build on it."""
    switch = Switch(Kind.MESSAGE, elsewhere=True)

    async def only_good(act: Act) -> Verdict:
        assert act.requester is None
        if act.content["body"] == "bad":
            return Refuse(Said("spam"))
        return Allow(("from-partner",))

    switch.verdict = only_good
    async with process(database, tmp_path, policy=[switch.check]) as here:
        alice, mod = await here.user("alice"), UserId("@mod:two.example")
        room_id = await here.room(alice, preset="public_chat")
        branch = (await Fork.of(here, room_id)).branch()
        branch.says(mod, "m.room.member", mod, {"membership": "join"})
        bad = branch.says(mod, "m.room.message", None, {**TEXT, "body": "bad"})
        good = branch.says(mod, "m.room.message", None, {**TEXT, "body": "good"})
        _, refused, written = await receive(here, *branch.events)
        assert refused.flags & SOFT_FAILED
        assert not written.flags & SOFT_FAILED
        answer = await here.sync(alice, filter={"room": {"timeline": {"limit": 50}}})
        shown = [each["event_id"] for each in answer["rooms"]["join"][room_id]["timeline"]["events"]]
        assert good.event_id in shown
        assert bad.event_id not in shown
        assert await column(here, "SELECT reason FROM log_causes") == ["refused by switch"]
        assert await column(here, "SELECT position FROM log_labels") == [written.nid]


async def test_mod_04_who_wants_no_invites_gets_none_from_elsewhere_either(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        alice, bob, mod = await here.user("alice"), await here.user("bob"), UserId("@mod:two.example")
        room_id = await here.room(alice, preset="public_chat")
        content = {"default_action": "block"}
        await here.account_data.service.put(bob.user_nid, None, "m.invite_permission_config", content)
        branch = (await Fork.of(here, room_id)).branch()
        branch.says(mod, "m.room.member", mod, {"membership": "join"})
        branch.says(mod, "m.room.member", bob.user_id, {"membership": "invite"})
        await receive(here, *branch.events)
        assert "rooms" not in await here.sync(bob)
        assert bob.user_id not in (await here.core.rooms.known(room_id)).members


async def test_what_the_server_does_by_itself_says_why_and_ordinary_acts_cost_no_row(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        await here.send(alice, room_id, "x")
        assert await column(here, "SELECT reason FROM log_causes") == []
        await here.rooms.own.leave_all_rooms(alice.user_id)
        async with here.core.db.read() as tx:
            rows = await tx.all("SELECT first = last, actor_nid, reason, request_id FROM log_causes")
            left = await tx.value("SELECT max(event_nid) = (SELECT first FROM log_causes) FROM events")
        assert rows == [(True, alice.user_nid, "the account has ended", None)]
        assert left, "a reader finds it by the position of the event"


async def test_causes_are_forgotten_when_every_reader_has_passed_them(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        await here.room(alice)
        await here.rooms.own.leave_all_rooms(alice.user_id)

        async def after_a_month(reader_at: int | None) -> list[Any]:
            async with here.core.db.transaction() as tx:
                await tx.execute("UPDATE log_causes SET written_ms = written_ms - %(ms)s", ms=KEEP_MS)
                await tx.execute("DELETE FROM log_readers")
                if reader_at is not None:
                    await tx.execute("INSERT INTO log_readers VALUES ('audit', %(at)s)", at=reader_at)
            await Forgetting(here.core.db, here.core.clock).forget()
            return await column(here, "SELECT reason FROM log_causes")

        assert await after_a_month(1) == ["the account has ended"]
        assert await after_a_month(here.core.tail.position) == []


@pytest.mark.parametrize("allowed", ["members", "admins"])
@pytest.mark.parametrize("who", ["member", "admin", "appservice"])
@pytest.mark.parametrize(
    "act", ["create", "upgrade", "alias", "alias of a new room", "publishing a new room"]
)
async def test_who_may_make_name_and_publish_rooms(
    database: str, tmp_path: Path, act: str, who: str, allowed: str
) -> None:
    """Each act by each kind of requester: administrators always, others where the configuration says members."""
    section = {"create": "create", "upgrade": "create"}.get(
        act, "alias_create" if "alias" in act else "publish"
    )
    rooms: dict[str, Any] = (
        {"directory": {"publish": allowed}} if section == "publish" else {section: allowed}
    )
    async with process(database, tmp_path, rooms=rooms) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        admin = msgspec.structs.replace(alice, is_admin=True)
        room_id = await here.room(admin, room_version="10")
        requester = {
            "member": alice,
            "admin": admin,
            "appservice": msgspec.structs.replace(alice, appservice_id="bridge"),
        }[who]
        if allowed == "members" or who == "admin":
            await ACTS[act][1](here, requester, bob, room_id)
        else:
            with pytest.raises(Forbidden):
                await ACTS[act][1](here, requester, bob, room_id)


async def test_acc_03_suspended_users_redact_their_own_alone_whatever_their_level(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, preset="public_chat")
        await here.rooms.membership.join(bob, room_id)
        own, others = await here.send(alice, room_id, "a"), await here.send(bob, room_id, "b")
        suspended = msgspec.structs.replace(alice, suspended=True)
        await here.rooms.sending.redact(suspended, room_id, own, "t1", {})
        with pytest.raises(UserSuspended):
            await here.rooms.sending.redact(suspended, room_id, others, "t2", {})


async def test_a_room_is_made_with_all_that_was_checked(database: str, tmp_path: Path) -> None:
    """Its creation, address, publication, name, topic, state and invites, in this order."""
    switch = Switch()
    async with process(database, tmp_path, policy=[switch.check]) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        wish = CreateRoom(
            visibility="public",
            room_alias_name="x",
            name="n",
            topic="t",
            initial_state=[StateEvent("a.b", {"c": 1})],
            invite=[bob.user_id, bob.user_id],
        )
        await here.rooms.creation.create(alice, wish)
        told = [(act.kind, act.type, dict(act.content)) for act in switch.acts]
        assert told == [
            (Kind.CREATE, "", {}),
            (Kind.ALIAS, "", {"alias": "#x:localhost"}),
            (Kind.PUBLISH, "", {}),
            (Kind.STATE, "m.room.name", {"name": "n"}),
            (Kind.STATE, "m.room.topic", {"topic": "t"}),
            (Kind.STATE, "a.b", {"c": 1}),
            (Kind.INVITE, "m.room.member", {"membership": "invite"}),
        ]
