"""What the configuration has refused: counted always, told in the log once per server and reason."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Final, get_args

import structlog
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from federation.ports import Refused
from homeserver.matrix.ids import ServerName

_log = structlog.get_logger("atrium.federation.partners")

MAX_TOLD: Final = 10_000
"""Servers and reasons that are not told of again in this process; those told longest ago are forgotten first."""

_REASONS: Final[tuple[Refused, ...]] = get_args(Refused)


class Refusals(Collector):
    """Counts of a process. No label names a server: there may be any number of them."""

    def __init__(self) -> None:
        self._counts: Counter[Refused] = Counter()
        self._told: OrderedDict[tuple[str, Refused], None] = OrderedDict()

    def note(self, server_name: ServerName, reason: Refused, room_id: str = "") -> None:
        """Something was refused. `room_id`: which room it was about, if it was about one."""
        self._counts[reason] += 1
        key = (server_name, reason)
        if key in self._told:
            return
        self._told[key] = None
        if len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)
        fields = {"room": room_id} if room_id else {}
        _log.warning("federation.refused", server=server_name, reason=reason, **fields)

    def begin_anew(self) -> None:
        """The configuration is another: what it refuses is told again."""
        self._told.clear()

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        counted = CounterMetricFamily(
            "atrium_federation_refused",
            "What was refused by federation.allow, .deny and .partners",
            labels=("reason",),
        )
        for reason in _REASONS:
            counted.add_metric((reason,), self._counts[reason])
        yield counted
