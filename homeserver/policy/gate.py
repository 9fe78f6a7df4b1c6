"""The gate: asks the checks that concern an act, in their order, before anything is built or written.

What no check concerns passes at once: one look into a dictionary. What some concern may wait; nothing is held meanwhile, and
whether the act is still possible is decided afterwards, on the room as it is then.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from homeserver.events.event import Event
from homeserver.matrix.errors import Unavailable
from homeserver.policy.passages import Passage, made_by_gate
from homeserver.policy.types import (
    MAX_LABEL,
    MAX_LABELS,
    Act,
    Allow,
    Check,
    Kind,
    Refuse,
    Verdict,
    received_act,
)
from homeserver.runtime.causes import Causes
from homeserver.runtime.clock import Clock
from homeserver.runtime.supervised import asked_to_end
from homeserver.web.auth import Requester

_log = structlog.get_logger(__name__)

LONGEST = 60.0
"""Seconds for all acts of one passage, whatever the timeouts of the checks add up to."""
MAX_UNDER_WAY = 2_000
"""Passages that wait for checks in one process; beyond it callers are told to come back."""

_ByKind = dict[Kind, tuple[Check, ...]]


class _Failed(Exception):  # never leaves this file
    """A check that refuses when it fails has failed."""


class Gate(Collector):
    """Owns the checks, and counts what they answer. Closed until `install` was called."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._local: _ByKind | None = None
        self._elsewhere: _ByKind = {}
        self._under_way = 0
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._causes: dict[str, Causes] = {}

    def install(self, checks: Iterable[Check]) -> None:
        """Open the gate, with these checks in this order; once."""
        assert self._local is None, "the checks of a process do not change"
        checks = tuple(checks)
        self._causes = {check.name: Causes(_log, "policy_check_failed", name=check.name) for check in checks}
        assert len(self._causes) == len(checks), "two checks have the same name"
        self._local = {
            kind: found for kind in Kind if (found := _of(kind, [each for each in checks if each.here]))
        }
        self._elsewhere = {
            kind: found for kind in Kind if (found := _of(kind, [each for each in checks if each.elsewhere]))
        }

    def pass_at_once(self, requester: Requester, kind: Kind, event_type: str) -> Passage | None:
        """The passage of an act that no check concerns; None: build the act, and ask `admit`.

        `event_type`: of the event.
        """
        assert self._local is not None, "no checks are installed"
        checks = self._local.get(kind)
        if checks is not None and any(check.types is None or event_type in check.types for check in checks):
            return None
        return made_by_gate(requester.user_nid)

    async def admit(self, requester: Requester, *acts: Act) -> Passage:
        """The passage of a local user's acts, if all checks let all of them pass.

        Raises what the first check that refuses says; `Unavailable` where one fails that refuses then, or where it takes too
        long, or too many wait.
        """
        assert self._local is not None, "no checks are installed"
        concerned = [
            (check, act) for act in acts for check in self._local.get(act.kind, ()) if _concerns(check, act)
        ]
        if not concerned:
            return made_by_gate(requester.user_nid)
        verdict, _ = await self._ask(concerned)
        if isinstance(verdict, Refuse):
            raise verdict.error
        return made_by_gate(requester.user_nid, verdict.labels)

    def spare(self, event: Event) -> Passage | None:
        """The passage of an event from another server that no check has to be asked about; None: `examine` it."""
        return made_by_gate(None) if not self._concerned(event) else None

    async def examine(self, event: Event) -> Passage:
        """The passage of an event from another server; `refused` if a check says no. Raises `Unavailable` as `admit`."""
        verdict, by = await self._examined(event)
        if isinstance(verdict, Refuse):
            return made_by_gate(None, reason=f"refused by {by}", refused=True)
        return made_by_gate(None, verdict.labels)

    async def admit_from_elsewhere(self, event: Event) -> Passage:
        """The passage of an event from another server, where that waits for an answer. Raises what the check that refuses says,
        `Unavailable` as `admit`.
        """
        verdict, _ = await self._examined(event)
        if isinstance(verdict, Refuse):
            raise verdict.error
        return made_by_gate(None, verdict.labels)

    async def _examined(self, event: Event) -> tuple[Verdict, str]:
        concerned = self._concerned(event)
        return await self._ask(concerned) if concerned else (Allow(), "")

    def _concerned(self, event: Event) -> list[tuple[Check, Act]]:
        """The checks that have to be asked about an event from another server."""
        if not self._elsewhere:
            return []
        act = received_act(event)
        return [
            (check, act)
            for check in self._elsewhere.get(act.kind, ())
            if _concerns(check, act) and not (check.spares is not None and check.spares(act))
        ]

    async def _ask(self, concerned: Sequence[tuple[Check, Act]]) -> tuple[Verdict, str]:
        """The first refusal, with the name of its check, or all labels."""
        if self._under_way >= MAX_UNDER_WAY:
            raise Unavailable("Too many wait to be checked, try again")
        self._under_way += 1
        labels: dict[str, None] = {}
        try:
            async with asyncio.timeout(LONGEST):
                for check, act in concerned:
                    verdict = await self._ask_one(check, act)
                    if isinstance(verdict, Refuse):
                        return verdict, check.name
                    labels.update(dict.fromkeys(verdict.labels))
        except (_Failed, TimeoutError) as error:
            raise Unavailable("This could not be checked for the moment, try again") from error
        finally:
            self._under_way -= 1
        return Allow(tuple(labels)[:MAX_LABELS]), ""

    async def _ask_one(self, check: Check, act: Act) -> Verdict:
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(check.timeout):
                verdict = await check.decide(act)
            _require_valid(verdict)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and asked_to_end():
                raise
            self._count(check, "failed", began)
            self._causes[check.name].tell(error, kind=act.kind.value)
            if check.when_failing == "refuse":
                raise _Failed from error
            return Allow()
        self._causes[check.name].over()
        outcome = "refused" if isinstance(verdict, Refuse) else "labelled" if verdict.labels else "allowed"
        self._count(check, outcome, began)
        return verdict

    def _count(self, check: Check, outcome: str, began: float) -> None:
        self._outcomes[check.name, outcome] += 1
        self._seconds[check.name] += self._clock.monotonic() - began

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        outcomes = CounterMetricFamily(
            "atrium_policy_checks", "Answers of policy checks", labels=("name", "outcome")
        )
        for (name, outcome), count in self._outcomes.items():
            outcomes.add_metric((name, outcome), count)
        seconds = CounterMetricFamily(
            "atrium_policy_seconds", "Time spent in policy checks", labels=("name",)
        )
        for name, spent in self._seconds.items():
            seconds.add_metric((name,), spent)
        yield outcomes
        yield seconds
        yield GaugeMetricFamily(
            "atrium_policy_waiting", "Acts that wait for policy checks", value=self._under_way
        )


def _of(kind: Kind, checks: Iterable[Check]) -> tuple[Check, ...]:
    return tuple(check for check in checks if kind in check.kinds)


def _concerns(check: Check, act: Act) -> bool:
    return check.types is None or act.type in check.types


def _require_valid(verdict: Verdict) -> None:
    """Raises `ValueError` for what no check may answer."""
    if isinstance(verdict, Refuse):
        return
    if len(verdict.labels) > MAX_LABELS or any(not 0 < len(label) <= MAX_LABEL for label in verdict.labels):
        raise ValueError(f"at most {MAX_LABELS} labels of at most {MAX_LABEL} characters")
