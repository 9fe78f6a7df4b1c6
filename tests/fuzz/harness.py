"""Throws requests at a server and keeps book of what should not have happened.

Wrong is: a 5xx (unless the specification documents it for the operation), no answer within `PATIENCE`, a connection
that ends without one, and any answer that breaks the contract.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from tests.fuzz.attacks import Attack
from tests.support.raw_http import ConnectionEndedError, RawAnswer, RawConnection
from tests.support.spec import Exchange, load, problems_of

PATIENCE = 60.0  # seconds, on a machine that does much else; long polls are asked for by nobody here
_AT_ONCE = 8
_MAX_TOLD = 40
_REQUEST_ID = re.compile(r"request [\w-]+")


@dataclass
class Book:
    """What was sent, what came back, what was wrong with it."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: dict[str, list[Attack]] = field(default_factory=dict)

    def note(self, attack: Attack, problem: str) -> None:
        """Files a problem; equal problems of one endpoint stand together."""
        self.wrong.setdefault(
            f"{attack.method} {attack.name.split(' ')[1].rstrip(':')}: {problem}", []
        ).append(attack)

    def report(self) -> str:
        """The problems, most frequent first, each with its first attack in full."""
        ranked = sorted(self.wrong.items(), key=lambda entry: -len(entry[1]))
        lines = [f"{self.sent} requests, {len(ranked)} kinds of mistakes; statuses {dict(self.statuses)}"]
        for problem, attacks in ranked[:_MAX_TOLD]:
            first = attacks[0]
            lines += [f"- {problem} ({len(attacks)}x)", f"    first: {first.name.partition(': ')[2]}"]
            lines += [f"    {first.method} {_short(first.target)}  {_short(repr(first.body))}"]
        return "\n".join(lines)


async def throw(base_url: str, attacks: Iterable[Attack], book: Book) -> None:
    """Sends the attacks over a few connections at once, and judges each answer."""
    queue = iter(attacks)
    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(_thrower(base_url, queue, book))


async def _thrower(base_url: str, queue: Iterator[Attack], book: Book) -> None:
    async with RawConnection(base_url) as connection:
        for attack in queue:
            await _try(connection, attack, book)


async def _try(connection: RawConnection, attack: Attack, book: Book) -> None:
    book.sent += 1
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await connection.request(attack.method, attack.target, attack.headers, attack.body)
    except TimeoutError:
        await connection.close()
        book.note(attack, f"no answer within {PATIENCE} s")
    except ConnectionEndedError:
        book.note(attack, "the connection ended without an answer")
    else:
        book.statuses[answer.status] += 1
        for problem in judge(attack, answer):
            book.note(attack, problem)


def judge(attack: Attack, answer: RawAnswer) -> list[str]:
    """What is wrong with this answer to this attack, in words."""
    path = attack.target.partition("?")[0]
    if answer.status >= 500 and not _documented(attack.method, path, answer.status):
        said = _REQUEST_ID.sub("request …", answer.body.decode("utf-8", "replace"))
        return [f"{answer.status} {_short(said)}"]
    query = dict(parse_qsl(attack.target.partition("?")[2]))
    exchange = Exchange(attack.method, path, answer.status, answer.body, query, answer.headers)
    return [_short(problem) for problem in problems_of(exchange)]


def _documented(method: str, path: str, status: int) -> bool:
    spec = load()
    return spec is not None and any(
        str(status) in operation.responses for operation in spec.find(method, path)
    )


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:160]}… ({len(text)})"
