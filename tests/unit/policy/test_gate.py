"""The policy gate by itself: order, refusals, labels, failures, time, and that nobody else makes a passage."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest

from homeserver.matrix.errors import Forbidden, Unavailable
from homeserver.matrix.ids import RoomId, UserId
from homeserver.policy import gate as gate_module
from homeserver.policy.gate import Gate
from homeserver.policy.passages import Passage, system_passage
from homeserver.policy.types import ALLOW, Act, Allow, Check, Kind, Refuse, Verdict, event_act, received_act
from homeserver.runtime import request_context
from homeserver.runtime.clock import SystemClock
from homeserver.web.auth import Requester
from tests.support.pdus import event

ALICE = Requester(user_id=UserId("@alice:here"), user_nid=7)
ROOM = RoomId("!r:here")
MESSAGE = event_act(ALICE, ROOM, ("m.room.message", None), {"body": "hi"})


def check(
    name: str,
    decide: Callable[[Act], Awaitable[Verdict]],
    *kinds: Kind,
    when_failing: Literal["refuse", "allow"] = "refuse",
    **options: Any,
) -> Check:
    return Check(name=name, kinds=set(kinds or Kind), decide=decide, when_failing=when_failing, **options)


def answering(
    verdict: Verdict, asked: list[str] | None = None, name: str = ""
) -> Callable[[Act], Awaitable[Verdict]]:
    async def decide(act: Act) -> Verdict:
        del act
        if asked is not None:
            asked.append(name)
        return verdict

    return decide


async def failing(act: Act) -> Verdict:
    raise ValueError(act.kind)


async def hanging(act: Act) -> Verdict:
    del act
    await asyncio.Event().wait()
    raise AssertionError


def gate(*checks: Check) -> Gate:
    made = Gate(SystemClock())
    made.install(checks)
    return made


def figures(of: Gate) -> dict[tuple[str, str], float]:
    family = next(iter(of.collect()))
    return {(s.labels["name"], s.labels["outcome"]): s.value for s in family.samples}


def test_nobody_else_makes_a_passage() -> None:
    for arguments in ((), (7,), (7, "because", None, (), object())):
        with pytest.raises(TypeError, match="only the gate"):
            Passage(*arguments)


def test_a_gate_without_checks_installed_is_closed() -> None:
    with pytest.raises(AssertionError):
        Gate(SystemClock()).pass_at_once(ALICE, Kind.MESSAGE, "m.room.message")


def test_what_no_check_concerns_passes_at_once() -> None:
    topics = check("topics", answering(ALLOW), Kind.STATE, types={"m.room.topic"})
    here = gate(check("invites", answering(ALLOW), Kind.INVITE), topics)
    passage = here.pass_at_once(ALICE, Kind.MESSAGE, "m.room.message")
    assert passage is not None
    assert (passage.actor_nid, passage.reason, passage.labels) == (7, None, ())
    assert here.pass_at_once(ALICE, Kind.STATE, "m.room.name") is not None
    assert here.pass_at_once(ALICE, Kind.STATE, "m.room.topic") is None
    assert here.pass_at_once(ALICE, Kind.INVITE, "m.room.member") is None


def test_a_passage_names_the_request_and_the_system_its_reason() -> None:
    class Request:
        db_queries = 0
        request_id = "w-1f"

    token = request_context.current.set(Request())
    try:
        by_itself = system_passage("branches were brought together")
    finally:
        request_context.current.reset(token)
    assert by_itself.reason == "branches were brought together"
    assert by_itself.request is not None
    assert by_itself.request.request_id == "w-1f"
    assert system_passage("x").request is None


async def test_checks_are_asked_in_their_order_until_one_refuses() -> None:
    asked: list[str] = []
    no = Forbidden("not here")
    here = gate(
        check("first", answering(ALLOW, asked, "first")),
        check("others", answering(ALLOW, asked, "others"), Kind.INVITE),
        check("second", answering(Refuse(no), asked, "second")),
        check("third", answering(ALLOW, asked, "third")),
    )
    with pytest.raises(Forbidden) as refusal:
        await here.admit(ALICE, MESSAGE)
    assert refusal.value is no
    assert asked == ["first", "second"]
    assert figures(here) == {("first", "allowed"): 1, ("second", "refused"): 1}


async def test_labels_of_all_checks_and_acts_are_kept_once() -> None:
    here = gate(
        check("scan", answering(Allow(("pii", "internal")))),
        check("hook", answering(Allow(("internal", "partner")))),
    )
    assert (await here.admit(ALICE, MESSAGE, MESSAGE)).labels == ("pii", "internal", "partner")


@pytest.mark.parametrize(
    "decide", [failing, hanging, answering(Allow(("x" * 101,))), answering(Allow(("",)))]
)
@pytest.mark.parametrize("when_failing", ["refuse", "allow"])
async def test_a_check_that_fails_or_hangs_is_open_or_closed_as_declared(
    decide: Callable[[Act], Awaitable[Verdict]], when_failing: Literal["refuse", "allow"]
) -> None:
    here = gate(
        check("bad", decide, when_failing=when_failing, timeout=0.02),
        check("good", answering(Allow(("seen",)))),
    )
    if when_failing == "refuse":
        with pytest.raises(Unavailable):
            await here.admit(ALICE, MESSAGE)
    else:
        assert (await here.admit(ALICE, MESSAGE)).labels == ("seen",)
    assert figures(here)["bad", "failed"] == 1


async def test_a_check_whose_own_work_was_cancelled_has_failed() -> None:
    async def cancelled(act: Act) -> Verdict:
        del act
        raise asyncio.CancelledError

    with pytest.raises(Unavailable):
        await gate(check("bad", cancelled)).admit(ALICE, MESSAGE)
    assert (await gate(check("bad", cancelled, when_failing="allow")).admit(ALICE, MESSAGE)).labels == ()


async def test_a_request_that_ends_ends_its_checks() -> None:
    here = gate(check("slow", hanging, when_failing="allow"))
    asking = asyncio.create_task(here.admit(ALICE, MESSAGE))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert figures(here) == {}


async def test_all_acts_of_a_passage_share_one_bound_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "LONGEST", 0.05)

    async def slow(act: Act) -> Verdict:
        del act
        await asyncio.sleep(0.02)
        return ALLOW

    with pytest.raises(Unavailable):
        await gate(check("slow", slow, when_failing="allow")).admit(ALICE, *[MESSAGE] * 50)


async def test_a_bounded_number_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "MAX_UNDER_WAY", 2)
    goes_on = asyncio.Event()

    async def slow(act: Act) -> Verdict:
        del act
        await goes_on.wait()
        return ALLOW

    here = gate(check("slow", slow))
    waiting = [asyncio.create_task(here.admit(ALICE, MESSAGE)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await here.admit(ALICE, MESSAGE)
    goes_on.set()
    await asyncio.gather(*waiting)
    await here.admit(ALICE, MESSAGE)


def test_two_checks_of_one_name_are_a_mistake() -> None:
    with pytest.raises(AssertionError):
        gate(check("same", failing), check("same", failing))


@pytest.mark.parametrize(
    ("key", "content", "kind", "target"),
    [
        (("m.room.message", None), {}, Kind.MESSAGE, None),
        (("m.room.redaction", None), {}, Kind.REDACTION, None),
        (("m.room.topic", ""), {}, Kind.STATE, None),
        (("m.room.member", "@bob:here"), {"membership": "invite"}, Kind.INVITE, "@bob:here"),
        (("m.room.member", "@bob:here"), {"membership": "join"}, Kind.JOIN, "@bob:here"),
        (("m.room.member", "@bob:here"), {"membership": "ban"}, Kind.MEMBERSHIP, "@bob:here"),
        (("m.room.member", "@bob:here"), {"membership": ["invite"]}, Kind.MEMBERSHIP, "@bob:here"),
        (("m.room.member", None), {"membership": "invite"}, Kind.MESSAGE, None),
    ],
)
def test_what_kind_of_act_an_event_is(
    key: tuple[str, str | None], content: dict[str, Any], kind: Kind, target: str | None
) -> None:
    for act in (
        event_act(ALICE, ROOM, key, content),
        received_act(event("11", key[0], content, state_key=key[1])),
    ):
        assert (act.kind, act.target) == (kind, target)


async def test_an_event_that_all_checks_spare_is_not_asked_about() -> None:
    asked: list[str] = []
    spared = answering(ALLOW, asked, "spares")
    checks = check("spares", spared, elsewhere=True, spares=lambda act: act.kind is Kind.MESSAGE)
    message = event("11")
    state = event("11", "m.room.topic", {"topic": "hi"}, state_key="")
    opened = gate(checks)
    passage = opened.spare(message)
    assert passage is not None
    assert not passage.refused
    assert not (await opened.examine(message)).refused
    assert not asked
    assert opened.spare(state) is None
    await opened.examine(state)
    assert asked == ["spares"]
    also = gate(checks, check("other", answering(Refuse(Forbidden("no")), asked, "other"), elsewhere=True))
    assert also.spare(message) is None
    assert (await also.examine(message)).refused
