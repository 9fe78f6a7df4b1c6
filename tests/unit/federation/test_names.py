"""Server names, taken apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.transport.names import HostPort, split_server_name
from homeserver.matrix.ids import is_server_name


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("one.example", HostPort("one.example", None, literal=False)),
        ("one.example:443", HostPort("one.example", 443, literal=False)),
        ("1.2.3.4", HostPort("1.2.3.4", None, literal=True)),
        ("1.2.3.4:8448", HostPort("1.2.3.4", 8448, literal=True)),
        ("[2001:db8::1]", HostPort("2001:db8::1", None, literal=True)),
        ("[2001:DB8:0::1]:1", HostPort("2001:db8::1", 1, literal=True)),
        ("1.example", HostPort("1.example", None, literal=False)),
        ("One.Example", HostPort("One.Example", None, literal=False)),
    ],
)
def test_names(name: str, parts: HostPort) -> None:
    """CRY-03"""
    assert split_server_name(name) == parts


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a:0",
        "a:65536",
        "a:99999",
        "999.1.1.1",
        "127.1",
        "2130706433",
        "[::1",
        "[1.2.3.4]",
        "[:::]",
        "a b",
        "a/b",
        "a@b",
        "é",
    ],
)
def test_what_is_no_name(name: str) -> None:
    """CRY-03; and what resolvers take for an address that it does not look like."""
    with pytest.raises(ValueError, match=r".*"):
        split_server_name(name)


@given(st.from_regex(r"(\[[0-9a-f:.]{2,20}\]|[0-9a-z.-]{1,20})(:[0-9]{1,5})?", fullmatch=True))
def test_whatever_has_the_grammar_is_taken_apart_or_refused(name: str) -> None:
    assert is_server_name(name)
    try:
        parts = split_server_name(name)
    except ValueError:
        return
    again = split_server_name(parts.authority(parts.port))
    assert again == parts
