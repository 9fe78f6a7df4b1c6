"""An upload of one-time keys meets those that are there: what is new, what waits, what can be forgotten. Pure.

Decided while the log is locked: nobody uploads to the device or claims its keys meanwhile.
spec: client-server-api/#post_matrixclientv3keysupload (E2E-01, E2E-02, E2E-03)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from homeserver.e2ee.one_time_store import NewKey, Pack
from homeserver.matrix.errors import InvalidParam

MAX_STORED = 5_000
"""One-time keys a device can have waiting; clients keep 50 to 100."""
REMEMBERED = 500
"""Keys given out that are remembered per device, so that an upload that is repeated does not bring them back."""
SMALL_PACK = 8
"""Up to so many keys a pack is added to: clients replace keys one by one. A row of so many lies in one piece."""

Place = tuple[str, int, int]
"""(algorithm, first of the pack, place in the pack)"""


class Unchanged(Exception):
    """There is nothing to write."""


class Unread(Exception):
    """Keys lie under ids of the upload, and only who has read them knows whether they are the same."""

    def __init__(self, places: list[Place]) -> None:
        super().__init__(f"{len(places)} keys are to be read")
        self.places = places


class Upload:
    """One-time keys on their way to a device; possibly none."""

    __slots__ = (
        "anew",
        "counts",
        "device_id",
        "extended",
        "forgotten",
        "keys",
        "new",
        "other",
        "read",
        "user_nid",
    )

    def __init__(
        self, user_nid: int, device_id: str, keys: Sequence[NewKey], *, anew: bool, other: bool
    ) -> None:
        """`anew`: nothing of before counts, it goes with the upload. `other`: more is written than these keys."""
        self.user_nid = user_nid
        self.device_id = device_id
        self.keys = keys
        self.anew = anew
        self.other = other
        self.read: dict[Place, bytes] = {}
        """Keys that were there before; what lies at a place stays there."""
        self.counts: dict[str, int] = {}
        """Algorithm -> how many keys wait, with those of the upload."""
        self.new: dict[str, list[NewKey]] = {}
        """Algorithm -> keys that are to be written."""
        self.extended: dict[str, Pack] = {}
        """Algorithm -> the pack that they are added to."""
        self.forgotten: list[tuple[str, int]] = []
        """Packs whose keys were given out long ago."""

    def meet(self, packs: Sequence[Pack]) -> None:
        """Decide, by all packs of the device, oldest first. Raises `InvalidParam`, `Unchanged`, `Unread`."""
        before = [] if self.anew else packs
        self.counts = {}
        for pack in before:
            if pack.size > pack.given:
                self.counts[pack.algorithm] = self.counts.get(pack.algorithm, 0) + pack.size - pack.given
        self.new = by_algorithm(_new_keys(self.keys, before, self.read))
        added = sum(map(len, self.new.values()))
        if added and sum(self.counts.values()) + added > MAX_STORED:
            raise InvalidParam(f"one_time_keys: more than {MAX_STORED} keys would wait")
        if not added and not self.other:
            raise Unchanged
        self._place(before)

    def _place(self, before: Sequence[Pack]) -> None:
        self.forgotten = list(_long_given(before)) if self.new else []
        last = {pack.algorithm: pack for pack in before if (pack.algorithm, pack.first) not in self.forgotten}
        self.extended = {}
        for algorithm, keys in self.new.items():
            self.counts[algorithm] = self.counts.get(algorithm, 0) + len(keys)
            pack = last.get(algorithm)
            if pack is not None and pack.size + len(keys) <= SMALL_PACK:
                self.extended[algorithm] = pack

    def release(self) -> None:
        """It is written: the log's recent entries need not hold its keys."""
        self.keys, self.new, self.extended, self.read = (), {}, {}, {}


def by_algorithm(keys: Iterable[NewKey]) -> dict[str, list[NewKey]]:
    found: dict[str, list[NewKey]] = {}
    for key in keys:
        found.setdefault(key.algorithm, []).append(key)
    return found


def _new_keys(keys: Sequence[NewKey], packs: Iterable[Pack], read: Mapping[Place, bytes]) -> Sequence[NewKey]:
    """Those that are not there yet. Raises `InvalidParam` for another key under the id of one that waits (E2E-02)."""
    ids = {key.key_id for key in keys}
    there: dict[tuple[str, str], tuple[Pack, int]] = {}
    for pack in packs:
        if pack.ids is not None and not ids.isdisjoint(pack.ids):
            # Of several keys of one id the last counts: those before it were given out.
            there |= {(pack.algorithm, key_id): (pack, place) for place, key_id in enumerate(pack.ids)}
    if not there:
        return keys
    found: list[NewKey] = []
    unread: list[Place] = []
    for key in keys:
        where = there.get((key.algorithm, key.key_id))
        if where is None:
            found.append(key)
            continue
        pack, place = where
        if (before := read.get((pack.algorithm, pack.first, place))) is None:
            unread.append((pack.algorithm, pack.first, place))
        elif before != key.key:
            if place >= pack.given:
                raise InvalidParam(f"one_time_keys.{key.algorithm}:{key.key_id}: another key has that id")
            found.append(key)
    if unread:
        raise Unread(unread)
    return found


def _long_given(packs: Sequence[Pack]) -> Iterable[tuple[str, int]]:
    newer = 0
    for pack in reversed(packs):
        if newer >= REMEMBERED and pack.given == pack.size:
            yield pack.algorithm, pack.first
        newer += pack.given
