"""Bots of the SDK in its own testing kit (docs/bots.md)."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest

from appservices.bots import (
    Bot,
    Context,
    Duration,
    Member,
    Message,
    NotConfigured,
    Reaction,
    Refused,
    Unreachable,
    UserId,
)
from appservices.bots.arguments import parameters_of, read
from appservices.bots.errors import BadArguments, BotError
from appservices.bots.sealing import Seal
from appservices.bots.store import Store
from appservices.bots.streams import PREFIX, SUBSCRIBE
from appservices.bots.testing import ALICE, BotTest, settle

BOB = "@bob:example.org"


def make_bot(**options: Any) -> Bot:
    bot = Bot("Helper", **options)

    @bot.command()
    async def ping(ctx: Context) -> None:
        """Answers.

        Nothing more.
        """
        await ctx.reply("pong")

    @bot.command(aliases=["add"])
    async def plus(ctx: Context, a: int, b: int = 1, *, note: str = "") -> None:
        """Adds."""
        await ctx.say(f"{a + b}{note}")

    @bot.command()
    async def count(ctx: Context) -> None:
        """Counts, by room and by person."""
        room, user = await ctx.room_state(), await ctx.user_state()
        room.set("n", room.get("n", 0) + 1)
        user.set("n", user.get("n", 0) + 1)
        await ctx.say(f"{room.get('n')} {user.get('n')}")

    @bot.command()
    async def fail(ctx: Context) -> None:
        """Fails."""
        (await ctx.room_state()).set("n", 100)
        raise RuntimeError("on purpose")

    return bot


# ------------------------------------------------------------------------------------------------------- arguments


async def declared(
    ctx: Context, size: int, kind: Literal["a", "b"] = "a", wait: Duration | None = None, *, rest: str = ""
) -> None: ...


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("3", {"size": 3, "kind": "a", "wait": None, "rest": ""}),
        ("3 b 1h30m  hello   world ", {"size": 3, "kind": "b", "wait": 5400.0, "rest": "hello   world"}),
        ("\"3\" 'b'", {"size": 3, "kind": "b", "wait": None, "rest": ""}),
    ],
)
def test_arguments_are_read_by_the_signature(line: str, values: dict[str, Any]) -> None:
    assert read(parameters_of(declared), line) == values


@pytest.mark.parametrize("line", ["", "x", "3 c", "3 a soon", '"3', "9" * 5000])
def test_a_mistake_in_arguments_is_told(line: str) -> None:
    with pytest.raises(BadArguments):
        read(parameters_of(declared), line)


def test_what_cannot_be_read_from_text_is_refused_when_it_is_declared() -> None:
    async def takes_a_list(ctx: Context, values: list[int]) -> None: ...

    with pytest.raises(BotError):
        Bot("x").command()(takes_a_list)
    bot = make_bot()
    with pytest.raises(BotError):
        bot.command("ping")(declared)


# ------------------------------------------------------------------------------------------------------- commands


async def test_commands_are_answered() -> None:
    async with BotTest(make_bot()) as test:
        [answer] = await test.say("!ping")
        assert (answer.body, answer.msgtype, answer.mentions) == ("pong", "m.notice", (ALICE,))
        assert answer.reply_to is not None
        assert [each.body for each in await test.say("!plus 2 3 is it")] == ["5is it"]
        assert [each.body for each in await test.say("!add 2")] == ["3"]
        [mistake] = await test.say("!plus two")
        assert mistake.body == "A is a whole number. It is `!plus <a> [b] [note…]`."
        assert await test.say("!unknown") == await test.say("ping") == []


async def test_it_is_addressed_by_name_or_by_mention() -> None:
    async with BotTest(make_bot()) as test:
        assert len(await test.say("helper: ping")) == 1
        assert len(await test.say("Helper ping", **{"m.mentions": {"user_ids": [test.user_id]}})) == 1
        assert await test.say("helpers ping") == []


async def test_help_is_made_of_signatures_and_docstrings() -> None:
    async with BotTest(make_bot(about="I help.")) as test:
        [answer] = await test.say("!help")
        assert answer.body.startswith(
            "I help.\n\n- `!count` Counts, by room and by person.\n- `!fail` Fails.\n"
        )
        assert "`!plus <a> [b] [note…]` Adds." in answer.body
        assert answer.html is not None
        assert "<li><code>!count</code>" in answer.html
        [answer] = await test.say("!help ping")
        assert answer.body == "`!ping`\n\nAnswers.\n\nNothing more."


async def test_bots_notices_edits_and_itself_are_not_answered() -> None:
    async with BotTest(make_bot()) as test:
        assert await test.say("!ping", msgtype="m.notice") == []
        relation = {"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}}
        assert await test.say("* !ping", **relation) == []
        assert (
            len(await test.say("!ping", sender=test.user_id)) == 1
        )  # what was said in its name, and no answer


async def test_a_handler_that_fails_changes_nothing_and_says_so() -> None:
    async with BotTest(make_bot()) as test:
        await test.say("!count")
        [answer] = await test.say("!fail")
        assert "went wrong" in answer.body
        [answer] = await test.say("!count", sender=BOB)
        assert answer.body == "2 1"


async def test_markup_of_others_gets_through_as_text() -> None:
    bot = Bot("echo")

    @bot.command()
    async def echo(ctx: Context, *, text: str) -> None:
        await ctx.say(text)

    async with BotTest(bot) as test:
        [answer] = await test.say("!echo **b** <img src=x onerror=alert(1)> [x](javascript:alert(1))")
        assert answer.html is not None
        assert "<strong>b</strong> &lt;img" in answer.html
        assert "<img" not in answer.html
        assert "href" not in answer.html


async def test_a_command_can_be_for_who_has_the_power() -> None:
    bot = Bot("keeper")

    @bot.command(power=50)
    async def close(ctx: Context) -> None:
        await ctx.say("closed")

    async with BotTest(bot) as test:
        levels = {"users": {ALICE: 50}, "users_default": 10}
        test.server.add(test.room_id, ALICE, "m.room.power_levels", levels, "")
        assert [each.body for each in await test.say("!close", sender=BOB)] == [
            "You may not do that in this room."
        ]
        assert [each.body for each in await test.say("!close")] == ["closed"]
        room = test.server.make_room(
            BOB, [test.user_id], {"room_version": "12", "additional_creators": [ALICE]}
        )
        test.server.add(room, BOB, "m.room.power_levels", {}, "")
        assert await test.runner.client.power_level(room, ALICE) > 100
        assert await test.runner.client.power_level(room, "@eve:example.org") == 0


# ------------------------------------------------------------------------------------------------------- once


async def test_what_is_told_again_is_answered_once() -> None:
    async with BotTest(make_bot()) as test:
        event = test.server.add(
            test.room_id, ALICE, "m.room.message", {"msgtype": "m.text", "body": "!count"}
        )
        for txn in ("a", "a", "b"):
            await test.runner.receive(txn, {"events": [event]})
            await test.idle()
        assert [each.body for each in test.messages] == ["1 1"]


async def test_a_handler_that_is_begun_again_says_nothing_twice_and_counts_once() -> None:
    bot = make_bot()
    held = asyncio.Event()
    begun = []

    @bot.command()
    async def slow(ctx: Context) -> None:
        state = await ctx.room_state()
        state.set("slow", state.get("slow", 0) + 1)
        begun.append(await ctx.say("one"))
        await held.wait()
        await ctx.say(f"two {state.get('slow')}")

    async with BotTest(bot) as test:
        await test.send("m.room.message", {"msgtype": "m.text", "body": "!slow"}, wait=False)
        await settle()
        await test.restart()
        await test.restart()
        held.set()
        await test.idle()
        assert [each.body for each in test.messages] == ["one", "two 1"]
        assert len(begun) == 3


async def test_others_do_not_wait_for_a_slow_answer() -> None:
    bot = make_bot()
    held = asyncio.Event()

    @bot.command()
    async def slow(ctx: Context) -> None:
        await held.wait()
        await ctx.say("slow")

    async with BotTest(bot) as test:
        await test.send("m.room.message", {"msgtype": "m.text", "body": "!slow"}, wait=False)
        await test.send("m.room.message", {"msgtype": "m.text", "body": "!ping"}, sender=BOB, wait=False)
        await test.send("m.room.message", {"msgtype": "m.text", "body": "!count"}, wait=False)
        await settle()
        assert [each.body for each in test.messages] == ["pong"]
        held.set()
        await test.idle()
        assert [each.body for each in test.messages] == ["pong", "slow", "1 1"]


async def test_what_could_not_be_said_because_the_server_was_away_is_said_later() -> None:
    async with BotTest(make_bot()) as test:
        test.server.failing = Unreachable("away")
        await test.send("m.room.message", {"msgtype": "m.text", "body": "!count"}, wait=False)
        await settle()
        assert test.messages == []
        test.server.failing = None
        assert [each.body for each in await test.advance(10)] == ["1 1"]


async def test_what_is_refused_is_the_end_of_it() -> None:
    async with BotTest(make_bot()) as test:
        test.server.failing = Refused(403, "M_FORBIDDEN", "no")
        await test.say("!count")
        test.server.failing = None
        assert [each.body for each in await test.say("!count")] == ["1 1"]


# ------------------------------------------------------------------------------------------------------- conversations


async def test_threads_reactions_edits_and_direct_conversations() -> None:
    bot = Bot("talker")

    @bot.command()
    async def talk(ctx: Context) -> None:
        first = await ctx.reply_in_thread("first")
        await ctx.edit(first, "*better*")
        await ctx.react("👍")
        await ctx.dm("psst")

    async with BotTest(bot) as test:
        root = await test.send("m.room.message", {"msgtype": "m.text", "body": "!talk"})
        first, edit, direct = test.messages
        assert first.thread == root
        assert edit.replaces == first.event_id
        assert edit.content["m.new_content"]["formatted_body"] == "<em>better</em>"
        assert [each.key for each in test.reactions] == ["👍"]
        assert direct.room_id != test.room_id
        await test.say("!talk")
        assert test.messages[-1].room_id == direct.room_id
        await test.say("!talk", **{"m.relates_to": {"rel_type": "m.thread", "event_id": root}})
        assert test.messages[-3].thread == root


async def test_a_direct_conversation_that_was_just_made_is_found_again() -> None:
    async with BotTest(Bot("x")) as test:
        client = test.runner.client
        room_id = await client.create_room(creation_content={"io.atrium.bot.direct": BOB}, invite=[BOB])
        assert await client.direct(BOB) == room_id == await client.direct(BOB)
        assert await client.room("lobby", name="Lobby") == await client.room("lobby", name="Lobby")


async def test_buttons_are_pressed_by_reacting_also_after_a_restart() -> None:
    bot = Bot("deployer")

    @bot.command()
    async def deploy(ctx: Context, version: str) -> None:
        await ctx.ask(f"Deploy {version}?", {"✅": True, "❌": False}, name="deploy", data=version)

    @bot.button("deploy")
    async def chosen(ctx: Context, choice: bool, data: str) -> None:
        assert isinstance(ctx.event, Reaction)
        ctx.close_buttons(ctx.event.target)
        await ctx.say(f"{data}: {'deployed' if choice else 'left'}")

    async with BotTest(bot) as test:
        [question] = await test.say("!deploy 1.2")
        assert [each.key for each in test.reactions] == ["✅", "❌"]
        await test.restart()
        assert await test.react(question.event_id, "🤷") == []
        assert [each.body for each in await test.react(question.event_id, "✅", sender=BOB)] == [
            "1.2: deployed"
        ]
        assert await test.react(question.event_id, "❌") == []


async def test_invitations_of_this_server_are_taken() -> None:
    seen: list[Member] = []
    bot = Bot("guest")
    bot.on_member(lambda ctx, member: _note(seen, member))
    async with BotTest(bot) as test:
        assert test.user_id in test.server.members(await test.invite())
        assert test.user_id not in test.server.members(await test.invite(sender="@eve:elsewhere.org"))
        assert len(seen) == 2


async def _note(seen: list[Any], what: Any) -> None:
    seen.append(what)


async def test_messages_and_mentions_are_heard() -> None:
    heard: list[Any] = []
    bot = make_bot()

    @bot.on_mention
    async def mentioned(ctx: Context, text: str) -> None:
        heard.append(text)

    @bot.on_message
    async def said(ctx: Context, message: Message) -> None:
        heard.append(message.body)

    async with BotTest(bot) as test:
        await test.say("hello all")
        await test.say("helper, what is this?")
        await test.say("!ping")
        quoting = "> <@x:y> old\n\nnew"
        await test.say(quoting, **{"m.relates_to": {"m.in_reply_to": {"event_id": "$1"}}})
    assert heard == ["hello all", "what is this?", "new"]


# ------------------------------------------------------------------------------------------------------- later


async def test_what_is_scheduled_happens_once_also_after_a_restart() -> None:
    bot = Bot("clock")

    @bot.command()
    async def remind(ctx: Context, after: Duration, *, text: str) -> None:
        ctx.schedule("reminder", after, text)

    @bot.task("reminder")
    async def reminder(ctx: Context, data: str) -> None:
        await ctx.say(f"{ctx.sender}: {data}")

    async with BotTest(bot) as test:
        await test.say("!remind 10m tea")
        assert await test.advance(500) == []
        await test.restart()
        assert [each.body for each in await test.advance(200)] == [f"{ALICE}: tea"]
        assert await test.advance(2000) == []


async def test_what_is_repeated_keeps_its_beat() -> None:
    bot = Bot("clock")
    turns = []

    @bot.repeat("tick", 60)
    async def tick(ctx: Context, data: None) -> None:
        turns.append(ctx.now_ms)

    async with BotTest(bot) as test:
        await test.advance(150)
        await test.restart()
        await test.advance(60)
        start = turns[0]
        assert [each - start for each in turns] == [0, 60_000, 120_000, 180_000]


# ------------------------------------------------------------------------------------------------------- streams


async def pieces(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        await settle()
        yield text


def streaming_bot(**options: Any) -> tuple[Bot, list[Any]]:
    bot, streams = Bot("Assistant"), []

    @bot.on_mention
    async def answer(ctx: Context, text: str) -> None:
        async with ctx.stream(**options) as stream:
            streams.append(stream)
            await held.wait()

    held = asyncio.Event()
    streams.append(held)
    return bot, streams


async def test_a_streamed_answer_is_two_events_and_updates_to_who_looks_at_it() -> None:
    """spec: MSC4471"""
    bot, streams = streaming_bot()
    held = streams[0]
    async with BotTest(bot) as test:
        await test.send("m.room.message", {"msgtype": "m.text", "body": "assistant: hi"}, wait=False)
        await settle()
        [first] = test.messages
        assert first.content[PREFIX] == {"device_id": "BOTDEVICE", "expiry_ms": 1_800_000}
        stream = streams[1]
        await stream.write("Hel")
        await test.subscribe(first.event_id)
        await test.clock.advance(1)
        await stream.write("lo **you**")
        await test.clock.advance(1)
        await test.subscribe(first.event_id, resync=True)
        await test.clock.advance(1)
        for number in range(1_000):
            await stream.write(f" {number}")
        held.set()
        await test.idle()
        updates = test.updates()
        assert [(each["seq"], each["op"], each["content"]["body"]) for each in updates[:3]] == [
            (1, "replace", "Hel"),
            (2, "append", "lo **you**"),
            (3, "replace", "Hello **you**"),
        ]
        first, edit = test.messages
        assert edit.replaces == first.event_id
        assert edit.content["m.new_content"]["body"] == stream.text
        assert PREFIX not in edit.content["m.new_content"]
        assert len(updates) < 10


async def test_who_is_not_in_the_room_is_told_nothing() -> None:
    bot, streams = streaming_bot()
    async with BotTest(bot) as test:
        await test.send("m.room.message", {"msgtype": "m.text", "body": "assistant: hi"}, wait=False)
        await settle()
        await test.subscribe(test.messages[0].event_id, sender=BOB, device="BOBS")
        await test.subscribe("$other", device="LOST")
        assert [each["content"]["code"] for each in test.server.to_device] == [
            "m.forbidden",
            "m.unknown_stream",
        ]
        await streams[1].write("secret")
        await test.clock.advance(1)
        assert test.updates("BOBS") == []
        streams[0].set()
        await test.idle()


async def test_without_a_device_it_is_edited_at_most_twenty_times() -> None:
    bot, streams = streaming_bot()
    async with BotTest(bot, streams=False) as test:
        await test.send("m.room.message", {"msgtype": "m.text", "body": "assistant: hi"}, wait=False)
        await settle()
        for number in range(3_000):
            await streams[1].write(f"{number % 10} ")
            await test.clock.advance(1)
        streams[0].set()
        await test.idle()
        first, *edits = test.messages
        assert PREFIX not in first.content
        assert 10 < len(edits) <= 20
        assert edits[-1].content["m.new_content"]["body"] == streams[1].text[:12_000]
        await asyncio.sleep(0)


async def test_a_long_answer_is_said_in_parts() -> None:
    bot = Bot("writer")

    @bot.command()
    async def write(ctx: Context) -> None:
        text = await ctx.stream_all(pieces("a" * 20_000, "b" * 10_000))
        assert len(text) == 30_000

    async with BotTest(bot) as test:
        await test.say("!write")
        bodies = [each.content.get("m.new_content", each.content)["body"] for each in test.messages[1:]]
        assert "".join(bodies) == "a" * 20_000 + "b" * 10_000


async def test_a_stream_that_is_interrupted_goes_on_under_the_same_message() -> None:
    bot, streams = streaming_bot()
    async with BotTest(bot) as test:
        await test.send("m.room.message", {"msgtype": "m.text", "body": "assistant: hi"}, wait=False)
        await settle()
        await streams[1].write("half")
        await test.restart()
        await settle()
        await streams[2].write("whole")
        streams[0].set()
        await test.idle()
        _, edit = test.messages
        assert edit.content["m.new_content"]["body"] == "whole"


def test_updates_are_sealed_with_the_key_of_the_message() -> None:
    """spec: MSC4471, Stream encryption"""
    seal, other = Seal.new(), Seal.new()
    inside = {"room_id": "!r:x", "event_id": "$e", "seq": 1}
    sealed = seal.close("t", inside)
    assert seal.open(sealed) == ("t", inside)
    assert other.open(sealed) is None
    assert seal.open({**sealed, "ciphertext": sealed["ciphertext"][:-4]}) is None
    assert seal.open({**sealed, "stream_id": "x"}) is None
    assert seal.open({"iv": "é", "ciphertext": "é"}) is None


def test_types_of_arguments_are_exported() -> None:
    async def f(ctx: Context, user: UserId) -> None: ...

    assert read(parameters_of(f), "@a:b") == {"user": "@a:b"}


class Locked:
    """Fulfils `Crypto`: every room is encrypted, and what is encrypted looks as before."""

    async def encrypt(self, room_id: str, kind: str, content: Any) -> tuple[str, Any]:
        return kind, content

    async def decrypt(self, raw: Any) -> Any:
        return (
            None
            if raw["content"].get("lost")
            else {**raw, "type": "m.room.message", "content": raw["content"]["inside"]}
        )

    def note(self, room_id: str) -> None:
        return

    def knows_encrypted(self, room_id: str) -> bool:
        return True


async def test_in_encrypted_rooms_updates_are_encrypted_too() -> None:
    """spec: MSC4471, Stream encryption"""
    bot, streams = streaming_bot()
    async with BotTest(bot) as test:
        test.runner.client.crypto = Locked()
        inside = {"msgtype": "m.text", "body": "assistant: hi"}
        await test.send("m.room.encrypted", {"lost": True}, wait=False)
        await test.send("m.room.encrypted", {"inside": inside}, wait=False)
        await settle()
        [first] = test.messages
        key = first.content[PREFIX]["encryption"]["key"]
        seal = Seal(base64.urlsafe_b64decode(key + "="))
        asked = {"room_id": test.room_id, "event_id": first.event_id, "subscriber_device_id": "PHONE"}
        sealed = seal.close(SUBSCRIBE, asked)
        strangers = Seal.new().close(SUBSCRIBE, asked)
        for content in (strangers, sealed):
            message = {"type": "m.room.encrypted", "sender": ALICE, "content": content}
            await test.runner.receive(content["iv"], {"to_device": [message]})
        await streams[1].write("hidden")
        await test.clock.advance(1)
        [update] = test.updates()
        opened = seal.open(update)
        assert opened is not None
        assert opened[1]["content"] == {"body": "hidden"}
        streams[0].set()
        await test.idle()


async def test_one_process_runs_on_the_same_data(tmp_path: Path) -> None:
    store = Store(tmp_path / "bot.db")
    with pytest.raises(NotConfigured, match="Another process"):
        Store(tmp_path / "bot.db")
    store.put("bot:", "x", 1)
    store.close()
    again = Store(tmp_path / "bot.db")
    assert again.value("bot:", "x") == 1
    again.close()
