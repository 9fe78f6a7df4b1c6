"""What a server ACL says of a server. CHECKLIST ACL-01."""

from typing import Any

import pytest

from federation.inbound.acl import Acl
from homeserver.matrix.ids import ServerName
from tests.support.cpu import least_cpu
from tests.support.vectors import vectors


def allows(content: dict[str, Any], server: str) -> bool:
    return Acl(content).allows(ServerName(server))


def test_the_vectors_of_the_specification() -> None:
    """ACL-01."""
    for case in vectors("server_acl")["cases"]:
        if case["acl"] is not None:
            assert allows(case["acl"], case["server"]) is case["allow"], case


@pytest.mark.parametrize(
    ("pattern", "server", "fits"),
    [
        ("*.evil.com", "a.b.evil.com", True),
        ("*evil.com", "notevil.com", True),
        ("*evil.com", "evil.com:80", True),
        ("evil.*", "EVIL.org", True),
        ("e?il.com", "evil.com", True),
        ("e*l.c*m", "evil.com", True),
        ("[2001:db8::1]", "[2001:DB8::1]:8448", True),
        ("1.2.3.*", "1.2.3.4", True),
        ("evil.com", "evil.com.good.com", False),
        ("evil.com:8448", "evil.com:8448", False),
    ],
)
def test_patterns(pattern: str, server: str, fits: bool) -> None:
    """ACL-01: globs, whatever the case; ports are ignored."""
    assert allows({"allow": [pattern]}, server) is fits
    assert allows({"allow": ["*"], "deny": [pattern]}, server) is not fits


@pytest.mark.parametrize("wrong", [None, 5, "*", {"*": 1}, [None, 5]])
def test_what_is_no_list_of_texts_allows_and_denies_nothing(wrong: Any) -> None:
    assert not allows({"allow": wrong}, "good.com")
    assert allows({"allow": ["*"], "deny": wrong}, "good.com")


def test_patterns_that_are_made_to_be_slow_are_bounded_and_refuse() -> None:
    """65 kB of stars: what cannot be told in time is not allowed."""
    slow = {"allow": ["*"], "deny": ["*a" * 100 + f"{n}x*y" for n in range(300)]}
    assert least_cpu(lambda: Acl(slow).allows(ServerName("a" * 250))) < 0.2
    many = {"allow": ["*"], "deny": [f"*.{n}.evil.example" for n in range(3_000)]}

    def ask_all() -> None:
        acl = Acl(many)
        assert all(acl.allows(ServerName(f"{n}.good.example")) for n in range(10_000))

    assert least_cpu(ask_all) < 1.0
