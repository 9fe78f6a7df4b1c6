"""What rooms have told to several readers alike."""

from typing import Any

from homeserver.graph.entry import RedactedEntry
from homeserver.sync.v3.shared import KEPT, Key, Shared


def key(number: int) -> Key:
    return Key(number, 1, 2, 1, None, frozenset())


def test_only_so_much_is_kept() -> None:
    shared = Shared[bytes]()
    for number in range(KEPT + 1):
        shared.put(key(number), b"%d" % number, shared.emptied)
    assert shared.get(key(0)) is None
    assert shared.get(key(KEPT)) == b"%d" % KEPT


def test_what_was_told_before_a_redaction_is_not_kept_beyond_it() -> None:
    """Others have a turn while a section is written: what is redacted then may stand in it."""
    shared = Shared[bytes]()
    shared.put(key(1), b"secret", shared.emptied)
    begun = shared.emptied
    because: Any = None  # who redacts is of no concern here
    redacted = shared.handlers()[RedactedEntry]
    assert callable(redacted)
    redacted(3, RedactedEntry(room_nid=1, because=because, targets=()))
    assert shared.get(key(1)) is None
    shared.put(key(2), b"secret", begun)
    assert shared.get(key(2)) is None
    shared.put(key(2), b"{}", shared.emptied)
    assert shared.get(key(2)) == b"{}"
