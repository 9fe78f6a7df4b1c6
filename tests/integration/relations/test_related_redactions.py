"""Redacting what relates to an event with it (MSC3912; CHECKLIST 26)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.background import jobs_done, shown, until_redacted
from tests.support.server import Server
from tests.support.user import User

UNSTABLE = "org.matrix.msc3912.with_relations"


async def say(user: User, room: str, txn: str, body: str, **relates: Any) -> str:
    content: dict[str, Any] = {"msgtype": "m.text", "body": body}
    if relates:
        content["m.relates_to"] = relates
    if relates.get("rel_type") == "m.replace":
        content["m.new_content"] = {"msgtype": "m.text", "body": body}
    return str((await user.put("/rooms/{}/send/m.room.message/{}", room, txn, json=content))["event_id"])


async def redact(user: User, room: str, event: str, txn: str, body: dict[str, Any], **options: Any) -> Any:
    return await user.put("/rooms/{}/redact/{}/{}", room, event, txn, json=body, **options)


@pytest.mark.parametrize("name", ["with_rel_types", UNSTABLE])
async def test_edits_go_with_what_they_change(server: Server, name: str) -> None:
    assert (await server.client.get("/_matrix/client/versions"))["unstable_features"]["org.matrix.msc3912"]
    alice = await server.register("alice")
    room = await alice.create_room()
    root = await say(alice, room, "root", "secrat")
    edits = [
        await say(alice, room, f"e{n}", f"secret {n}", rel_type="m.replace", event_id=root) for n in range(3)
    ]
    of_an_edit = await say(alice, room, "of", "no edit", rel_type="m.replace", event_id=edits[0])
    reply = await say(alice, room, "reply", "in a thread", rel_type="m.thread", event_id=root)
    body = {name: ["m.replace"], "reason": "a slip"}
    first = await redact(alice, room, root, "t", body)
    assert await redact(alice, room, root, "t", body) == first
    for event in await until_redacted(alice, room, [root, *edits]):
        because = event["unsigned"]["redacted_because"]
        assert because["content"].get("reason") == "a slip"
        assert name not in because["content"]
        assert because["sender"] == alice.user_id
    await jobs_done(server, "relations.redact")
    assert (await shown(alice, room, of_an_edit))["content"] != {}, "it relates to an edit, not to the event"
    assert (await shown(alice, room, reply))["content"] != {}
    page = await alice.get("/rooms/{}/messages", room, params={"dir": "b", "limit": 50})
    redactions = [event for event in page["chunk"] if event["type"] == "m.room.redaction"]
    assert len(redactions) == 4, "each once"


async def test_what_the_sender_may_not_redact_is_passed_over(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    root = await say(bob, room, "root", "a question")
    answers = [
        await say(who, room, "answer", "an answer", rel_type="m.thread", event_id=root)
        for who in (alice, bob)
    ]
    await redact(bob, room, root, "t", {"with_rel_types": ["*"]})
    await until_redacted(bob, room, [root, answers[1]])
    await jobs_done(server, "relations.redact")
    assert (await shown(bob, room, answers[0]))["content"] != {}
    # A moderator may.
    await redact(alice, room, root, "t", {"with_rel_types": ["m.thread", "m.reference"]})
    await until_redacted(alice, room, answers)


async def test_a_job_that_is_done_twice_redacts_once(server: Server) -> None:
    """As after a process that was killed: more than one page, and what was done before is not done again."""
    alice = await server.register("alice")
    room = await alice.create_room()
    root = await say(alice, room, "root", "x")
    replies = [await say(alice, room, f"r{n}", "y", rel_type="m.thread", event_id=root) for n in range(120)]
    for txn in ("t", "u"):
        await redact(alice, room, root, txn, {"with_rel_types": ["m.thread"]})
    await until_redacted(alice, room, replies)
    await jobs_done(server, "relations.redact")
    page = await alice.get("/rooms/{}/messages", room, params={"dir": "b", "limit": 500})
    targets = [event["redacts"] for event in page["chunk"] if event["type"] == "m.room.redaction"]
    assert sorted(target for target in targets if target != root) == sorted(replies)


@pytest.mark.parametrize("wrong", ["m.replace", [5], ["x" * 256], ["x"] * 21, {}])
async def test_wrong_wishes_are_refused_before_anything_is_redacted(server: Server, wrong: Any) -> None:
    alice = await server.register("alice")
    room = await alice.create_room()
    said = await say(alice, room, "m", "x")
    await redact(alice, room, said, "t", {"with_rel_types": wrong}, expect=(400, "M_INVALID_PARAM"))
    assert (await shown(alice, room, said))["content"] != {}
    await redact(alice, room, said, "t", {"with_rel_types": []})
