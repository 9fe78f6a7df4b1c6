"""What the configuration says of partners, without a server."""

from typing import Any

import pytest

from federation.partners.commands import agreed
from federation.partners.policy import NOTHING_AGREED, Policy, RoomFacts
from homeserver.config.federation import FederationSection
from homeserver.matrix.ids import ServerName

ROOM = RoomFacts("!abc:maker.test", "maker.test", ["#shared-it:here.test"])


def policy(**section: Any) -> Policy:
    return Policy(FederationSection.model_validate(section))


@pytest.mark.parametrize(
    ("section", "name", "spoken_with"),
    [
        ({}, "any.test", True),
        ({"enabled": False}, "any.test", False),
        ({"deny": ["*.evil.test"]}, "a.evil.test", False),
        ({"deny": ["*.evil.test"]}, "a.evil.test:8448", False),
        ({"deny": ["*.evil.test"]}, "evil.test", True),
        ({"deny": ["EVIL.test"]}, "evil.TEST", False),
        ({"allow": ["partner.test"]}, "partner.test:443", True),
        ({"allow": ["partner.test:443"]}, "partner.test:443", True),
        ({"allow": ["partner.test:443"]}, "partner.test", False),
        ({"allow": []}, "partner.test", False),
        ({"allow": ["*"], "deny": ["partner?.test"]}, "partner1.test", False),
        ({"allow": ["*"], "deny": ["partner?.test"]}, "partner10.test", True),
        ({"allow": ["[::1]"]}, "[::1]:8448", True),
    ],
)
def test_who_is_spoken_with(section: dict[str, Any], name: str, spoken_with: bool) -> None:
    assert policy(**section).may_speak(ServerName(name)) is spoken_with


@pytest.mark.parametrize(
    ("rooms", "shared"),
    [
        (None, True),
        ([], False),
        (["!abc:maker.test"], True),
        (["!other:maker.test"], False),
        (["#shared-*:here.test"], True),
        (["#private-*:here.test"], False),
        (["maker.test"], True),
        (["*.maker.test"], False),
        (["other.test", "MAKER.test"], True),
    ],
)
def test_which_rooms_are_shared(rooms: list[str] | None, shared: bool) -> None:
    terms = {"server_name": "partner.test", "rooms": rooms}
    assert policy(partners=[terms]).may_share(ServerName("partner.test"), ROOM) is shared
    assert policy(partners=[terms]).may_share(ServerName("other.test"), ROOM)
    assert not policy(partners=[terms], deny=["partner.test"]).may_share(ServerName("partner.test"), ROOM)


def test_a_name_counts_before_patterns_and_of_those_the_first() -> None:
    found = policy(
        partners=[
            {"server_name": "*.partner.test", "contact": "mailto:all@partner.test"},
            {"server_name": "*", "presence": False},
            {"server_name": "one.partner.test", "contact": "mailto:one@partner.test"},
        ]
    )
    assert found.terms(ServerName("one.partner.test")).contact == "mailto:one@partner.test"
    assert found.terms(ServerName("two.partner.test:8448")).contact == "mailto:all@partner.test"
    assert not found.terms(ServerName("other.test")).presence
    assert policy().terms(ServerName("other.test")) is NOTHING_AGREED


def test_what_restricts_rooms() -> None:
    assert not policy().restricts_rooms
    assert not policy(partners=[{"server_name": "*", "media": False}]).restricts_rooms
    for section in (
        {"deny": ["a.test"]},
        {"allow": []},
        {"partners": [{"server_name": "a.test", "rooms": []}]},
    ):
        assert policy(**section).restricts_rooms


def test_ten_thousand_partners_and_a_name_of_stars() -> None:
    """Whoever a stranger says to be: looking it up has a bound."""
    found = policy(partners=[{"server_name": f"*a*b*{number}.test"} for number in range(10_000)])
    assert found.terms(ServerName("ab" * 120)) is NOTHING_AGREED
    assert found.may_speak(ServerName("ab" * 120))


def test_what_was_agreed_in_words() -> None:
    terms = {
        "server_name": "partner.test",
        "contact": "mailto:it@partner.test",
        "requests": {"per_second": 5, "burst": 10},
        "rooms": [],
        "max_media_size": "1M",
        "presence": False,
    }
    words = agreed(policy(partners=[terms], deny=["evil.test"]), ServerName("partner.test"))
    assert words == (
        "contact mailto:it@partner.test, 5 requests a second, 10 at once, some rooms alone, files up to 1048576 bytes, "
        "no presence"
    )
    assert agreed(policy(deny=["evil.test"]), ServerName("evil.test")) == "not spoken with"
    assert agreed(policy(), ServerName("any.test")) == ""
