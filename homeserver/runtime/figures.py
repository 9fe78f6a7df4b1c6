"""Figures for Prometheus: of this process, and of its siblings.

With several processes behind one port a scrape reaches any of them. So each writes its figures down every few seconds,
and whoever is asked tells its own as they are and the others' as they were last written; the label `worker` says whose.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from homeserver.runtime.cache import MemoryBudget
from homeserver.runtime.clock import Clock
from homeserver.runtime.turns import Steps, next_turn, pieces

WRITE_EVERY = 5.0
"""Seconds."""
_TOO_OLD = 4 * WRITE_EVERY * 1000
"""Milliseconds after which a sibling counts as gone."""

SAMPLES_AT_ONCE = 1_000
"""Gathered in one turn."""

Gauge = tuple[str, str, Callable[[], float]]
"""Name, what it is, how much it is now."""


class _Sample(msgspec.Struct, array_like=True):
    name: str
    labels: dict[str, str]
    value: float


class _Family(msgspec.Struct, array_like=True):
    name: str
    documentation: str
    type: str
    samples: list[_Sample]


class _Written(msgspec.Struct, array_like=True):
    at_ms: int
    families: list[_Family]


class Gauges(Collector):
    """Numbers that are simply looked up when somebody asks."""

    def __init__(self, gauges: Iterable[Gauge]) -> None:
        self._gauges = list(gauges)

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        for name, documentation, read in self._gauges:
            yield GaugeMetricFamily(name, documentation, value=read())


class CacheFigures(Collector):
    """What the caches of a budget hold."""

    def __init__(self, memory: MemoryBudget) -> None:
        self._memory = memory

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        size = GaugeMetricFamily("atrium_cache_bytes", "What a cache holds, roughly", labels=["cache"])
        count = GaugeMetricFamily("atrium_cache_values", "Values in a cache", labels=["cache"])
        for cache in self._memory.caches:
            size.add_metric([cache.name], cache.size)
            count.add_metric([cache.name], len(cache))
        yield from (size, count)
        yield GaugeMetricFamily(
            "atrium_cache_bytes_limit", "What all caches may hold", value=self._memory.limit
        )
        yield GaugeMetricFamily(
            "atrium_cache_evicted", "Values that had to go since the start", value=self._memory.evicted
        )


class _Gathered(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    @override
    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        return self._metrics


class Figures(Collector):
    """Everything one process counts, with the label `worker`; and what its siblings wrote in `folder`, if they do."""

    def __init__(self, clock: Clock, *, worker: int, folder: Path | None) -> None:
        """`folder`: where several processes write their figures; None: there is one process."""
        self._clock = clock
        self._worker = worker
        self._folder = folder
        self._own = CollectorRegistry()
        ProcessCollector(registry=self._own)
        GCCollector(registry=self._own)

    def register(self, collector: Collector) -> None:
        """Add what a part of the server counts. Raises `ValueError` where two count under one name."""
        self._own.register(collector)

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        merged: dict[str, Metric] = {}
        for _ in self._merge(merged):
            pass
        yield from merged.values()

    async def gather(self) -> Collector:
        """The same as of about now; others have a turn between. It may be read by another thread."""
        merged: dict[str, Metric] = {}
        steps = Steps(SAMPLES_AT_ONCE)
        for samples in self._merge(merged):
            if steps.full(samples):
                await next_turn()
        return _Gathered(list(merged.values()))

    def _merge(self, merged: dict[str, Metric]) -> Iterator[int]:
        """Gives the number of samples each time that some were added."""
        for worker, families in (self._worker, self._families()), *self._siblings():
            for family in families:
                metric = merged.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for some in pieces(family.samples, SAMPLES_AT_ONCE):
                    for sample in some:
                        metric.add_sample(sample.name, {**sample.labels, "worker": str(worker)}, sample.value)
                    yield len(some)

    @property
    def shared(self) -> bool:
        """Whether siblings read what `write` writes."""
        return self._folder is not None

    async def write(self) -> None:
        """Write the figures down for the siblings; to be called every `WRITE_EVERY` seconds. Raises `OSError`."""
        folder = self._folder
        assert folder is not None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(folder)
        new = path.with_suffix(".new")
        families: list[_Family] = []
        steps = Steps(SAMPLES_AT_ONCE)
        for family in self._families():
            if steps.full(len(family.samples)):
                await next_turn()
            families.append(family)
        new.write_bytes(msgspec.msgpack.encode(_Written(self._clock.now_ms(), families)))
        new.replace(path)

    def withdraw(self) -> None:
        """The process ends: siblings tell of it no more."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._path(self._folder).unlink(missing_ok=True)

    def _path(self, folder: Path) -> Path:
        return folder / f"{self._worker}.figures"

    def _families(self) -> Iterator[_Family]:
        for m in self._own.collect():
            samples = [_Sample(s.name, dict(s.labels), s.value) for s in m.samples]
            yield _Family(m.name, m.documentation, m.type, samples)

    def _siblings(self) -> Iterator[tuple[int, Iterable[_Family]]]:
        if self._folder is None:
            return
        now = self._clock.now_ms()
        for path in sorted(self._folder.glob("*.figures")):
            worker = int(path.stem) if path.stem.isdecimal() else self._worker
            if worker == self._worker:
                continue
            with contextlib.suppress(OSError, msgspec.MsgspecError):  # being replaced, or not ours
                written = msgspec.msgpack.decode(path.read_bytes(), type=_Written)
                if now - written.at_ms <= _TOO_OLD:
                    yield worker, written.families
