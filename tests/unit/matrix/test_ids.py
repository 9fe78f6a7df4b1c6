"""Identifier grammars, from the vectors of the specification."""

import re

import pytest

from homeserver.matrix import ids, mxc, signing, threepids
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import UserId
from tests.support.vectors import vectors


def test_cry_03_server_names() -> None:
    given = vectors("identifiers")["server_name"]
    assert all(ids.is_server_name(name) for name in given["valid"])
    assert not any(ids.is_server_name(name) for name in given["invalid"])
    assert ids.domain_of("@a:Example.ORG") == "Example.ORG"  # case-sensitive: nothing folds it


@pytest.mark.parametrize(
    "name", ["a b", "a/b", "a:b", "a:", "[::1", "::1", "é.org", "a\n", "a:1\n", "a" * 256, "a:\u0661"]
)
def test_cry_03_what_is_no_server_name(name: str) -> None:
    assert not ids.is_server_name(name)


def test_evt_24_cry_03_localparts() -> None:
    """EVT-24: historical localparts are user ids; only new users are held to the grammar."""
    given = vectors("identifiers")["user_id_localpart"]
    for localpart in given["valid"]:
        assert ids.is_new_localpart(localpart)
        assert ids.is_user_id(f"@{localpart}:domain")
    assert not any(ids.is_new_localpart(localpart) for localpart in given["not_for_new_users"])
    assert all(ids.is_user_id(f"@{localpart}:domain") for localpart in given["must_accept_over_federation"])
    assert not any(ids.is_user_id(f"@{localpart}:domain") for localpart in given["never_valid"])


def test_names_from_elsewhere_become_localparts() -> None:
    for case in vectors("identifiers")["user_id_localpart"]["mapping"]:
        keep_case = case.get("mode") == "case-preserving bridge"
        assert ids.map_to_localpart(case["char"], keep_case=keep_case) == case["mapped"]
    assert ids.map_to_localpart("Ada Lovelace=1") == "ada=20lovelace=3d1"
    assert ids.map_to_localpart("Ada_L", keep_case=True) == "_ada___l"


def test_cry_03_room_aliases() -> None:
    given = vectors("identifiers")["room_alias"]
    assert all(ids.is_room_alias(alias) for alias in given["valid"])
    assert not any(ids.is_room_alias(alias) for alias in [*given["invalid"], "#:domain", "#a:do main"])


def test_cry_03_room_and_event_ids() -> None:
    assert all(map(ids.is_room_id, ["!x:domain", "!" + "A" * 43, "!a b:domain:8448"]))
    assert not any(map(ids.is_room_id, ["", "!", "x:domain", "!:domain", "!x:", "!x\0:domain", "!x:do main"]))
    assert all(map(ids.is_event_id, ["$x:domain", "$" + "A" * 43, "$a/b+c"]))
    assert not any(map(ids.is_event_id, ["", "$", "x", "$\0", "$" + "a" * 255]))
    assert ids.is_event_id_with_domain("$x:domain")
    assert not any(map(ids.is_event_id_with_domain, ["$x", "$:domain", "$" + "A" * 43]))


def test_cry_03_ids_have_at_most_255_bytes() -> None:
    """CRY-03: bytes, not characters."""
    for sigil, is_id in (
        ("@", ids.is_user_id),
        ("#", ids.is_room_alias),
        ("!", ids.is_room_id),
        ("$", ids.is_event_id),
    ):
        room = 255 - len(f"{sigil}:domain")
        assert is_id(f"{sigil}{'a' * room}:domain")
        assert not is_id(f"{sigil}{'a' * (room + 1)}:domain")
        assert not is_id(f"{sigil}{'é' * (room // 2 + 1)}:domain")


def test_namespaced_opaque_and_other_grammars() -> None:
    given = vectors("identifiers")
    for name, check in (("common_namespaced", ids.is_namespaced), ("opaque", ids.is_opaque)):
        assert all(check(value) for value in given[name]["valid"]), name
        assert not any(check(value) for value in given[name]["invalid"]), name
    for regex, check in (
        ("media_id_regex", mxc.is_media_id),
        ("client_secret_and_sid_regex", ids.is_client_secret),
        ("signing_key_version_regex", signing.is_key_version),
    ):
        for text in ("a", "A_-9", "a.b=c", "a b", "", "é", "a\n", "x" * 255):
            assert check(text) == bool(re.fullmatch(given[regex].strip("^$"), text)), (regex, text)


def test_room_version_grammar() -> None:
    grammar = vectors("room_versions")["grammar"]
    assert all(map(ids.is_room_version, grammar["valid"]))
    assert not any(map(ids.is_room_version, ["", "A", "a b", "a" * 33, "é"]))


def test_the_edge_names_the_parameter() -> None:
    assert ids.user_id("@a:domain") == UserId("@a:domain")
    for check in (ids.user_id, ids.room_id, ids.room_alias):
        with pytest.raises(InvalidParam, match="here: not a"):
            check("nonsense", "here")


def test_a_media_address_is_read_and_written() -> None:
    found = mxc.parse("mxc://example.org:8448/AQwafuaFswefuhsfAFAgsw")
    assert found == ("example.org:8448", "AQwafuaFswefuhsfAFAgsw")
    assert str(found) == "mxc://example.org:8448/AQwafuaFswefuhsfAFAgsw"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "mxc://",
        "mxc://a",
        "mxc://a/",
        "http://a/b",
        "mxc://a/b/c",
        "mxc://a/..",
        "mxc://a/b?c",
        "mxc://a b/c",
        "mxc:/a/b",
    ],
)
def test_what_is_no_media_address(uri: str) -> None:
    with pytest.raises(InvalidParam):
        mxc.parse(uri)


def test_e_mail_addresses_are_case_folded() -> None:
    for case in vectors("threepid_canonical")["cases"]:
        assert threepids.canonical_email(case["input"]) == case["canonical"]


@pytest.mark.parametrize("address", ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b\r\nBcc: x@y"])
def test_what_is_no_e_mail_address(address: str) -> None:
    with pytest.raises(InvalidParam):
        threepids.canonical_email(address)


def test_phone_numbers_are_digits() -> None:
    assert threepids.canonical_msisdn("+44 7700 900-123") == "447700900123"
    for number in ("", "07700900123", "+44 x", "1" * 16):
        with pytest.raises(InvalidParam):
            threepids.canonical_msisdn(number)
