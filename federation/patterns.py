"""Lists of names with `*` and `?`, as access control lists of rooms and the configuration have them. Pure.

spec: appendices/#glob-style-matching, client-server-api/#mroomserver_acl
"""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.matrix.glob import Glob, WorkBudget, fold, is_literal


class Patterns:
    """A list with an index: names as such in one set, what begins with `*` and is plain otherwise by its end. Case does not
    count.
    """

    __slots__ = ("_endings", "_everything", "_globs", "_lengths", "_plain")

    def __init__(self, patterns: Iterable[str]) -> None:
        texts = {fold(each) for each in patterns}
        self._everything = "*" in texts
        self._plain = {text for text in texts if is_literal(text)}
        self._endings = {text[1:] for text in texts if text[:1] == "*" and text[1:] and is_literal(text[1:])}
        self._lengths = sorted({len(ending) for ending in self._endings})
        rest = texts - self._plain - {"*" + ending for ending in self._endings} - {"*"}
        self._globs = [Glob(text) for text in sorted(rest)]

    def __len__(self) -> int:
        return len(self._plain) + len(self._endings) + len(self._globs)

    def match(self, name: str, work: WorkBudget) -> bool:
        """Whether one of them fits a folded name. Raises `OutOfWork`."""
        if self._everything or name in self._plain:
            return True
        if any(length <= len(name) and name[-length:] in self._endings for length in self._lengths):
            return True
        return any(glob.matches(name, work) for glob in self._globs)


def host_of(server_name: str) -> str:
    """A server name without its port."""
    host, colon, port = server_name.rpartition(":")
    return host if colon and port.isdecimal() and (host.endswith("]") or ":" not in host) else server_name
