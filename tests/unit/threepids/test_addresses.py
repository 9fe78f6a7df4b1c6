"""E-mail addresses: CHECKLIST AUTH-26, AUTH-32."""

import pytest

from homeserver.matrix.errors import InvalidParam
from homeserver.threepids.addresses import canonical_email
from tests.support.vectors import vectors


def test_one_address_has_one_form() -> None:
    """AUTH-32."""
    for case in vectors("threepid_canonical")["cases"]:
        assert canonical_email(case["input"]) == case["canonical"]


@pytest.mark.parametrize(
    ("spelled", "canonical"),
    [
        ("Alice@EXAMPLE.com", "alice@example.com"),
        (" alice@example.com ", "alice@example.com"),
        ("a.b+tag@sub.example.com", "a.b+tag@sub.example.com"),
        ("ΑΛΊΚΗ@παράδειγμα.ελ", "αλίκη@παράδειγμα.ελ"),
        ("o'brien@example.com", "o'brien@example.com"),
        ("root@localhost", "root@localhost"),
    ],
)
def test_spellings_of_the_same_address(spelled: str, canonical: str) -> None:
    """AUTH-32."""
    assert canonical_email(spelled) == canonical
    assert canonical_email(canonical) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "@example.com",
        "alice@",
        "alice@@example.com",
        "a@b@example.com",
        "alice@example..com",
        "alice@.example.com",
        "alice@-example.com",
        "alice@example.com\nBcc: bob@example.com",
        "alice@exam\nple.com",
        "alice\r\n@example.com",
        "alice@example.com, bob@example.com",
        "Alice <alice@example.com>",
        "alice bob@example.com",
        ".alice@example.com",
        "alice.@example.com",
        "al..ice@example.com",
        "alice\x00@example.com",
        "alice@[127.0.0.1]",
        '"alice"@example.com',
        "a" * 65 + "@example.com",
        "a@" + "b" * 64 + ".com",
        "a@" + ".".join(["b" * 60] * 5),
        "\ud800@example.com",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """AUTH-26."""
    with pytest.raises(InvalidParam):
        canonical_email(text)
