"""The header `Authorization: X-Matrix`: what is signed, how it is written, and how that of others is read."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation import x_matrix
from federation.x_matrix import Credentials, Signer
from homeserver.matrix import canonical_json
from homeserver.matrix.errors import Unauthorized
from homeserver.matrix.ids import ServerName
from tests.support.vectors import signing_key, vectors


def test_headers_of_the_vectors() -> None:
    """FED-01"""
    for case in vectors("x_matrix")["cases"]:
        signed = case["signed_object_without_signatures"]
        content = canonical_json.encode(signed["content"]) if "content" in signed else None
        signer = Signer(ServerName(signed["origin"]), signing_key())
        header = signer.authorization(signed["method"], signed["uri"], signed["destination"], content)
        assert header == case["authorization"]


def test_headers_that_say_the_same() -> None:
    """FED-02"""
    parsing = vectors("x_matrix")["parsing"]
    expected = parsing["equal_to"]
    for header in parsing["equivalent_headers"]:
        found = x_matrix.parse(header)
        assert found == Credentials(
            expected["origin"], expected["destination"], expected["key"], expected["sig"]
        )


NAME = ServerName("one.example:8448")
WHOLE = 'origin="one.example:8448",destination="d",key="ed25519:1",sig="abc"'


@pytest.mark.parametrize(
    "header",
    [
        "X-Matrix " + WHOLE,
        "x-matrix " + WHOLE,
        "X-Matrix   " + WHOLE,
        "X-Matrix ," + WHOLE,
        "X-Matrix " + WHOLE + " , ,",
        "X-Matrix " + WHOLE.replace(",", " ,\t"),
        "X-Matrix " + WHOLE.replace("=", " = "),
        "X-Matrix " + WHOLE.replace('"', ""),
        'X-Matrix realm="x, y=\\"z\\"",' + WHOLE,
        "X-Matrix " + ",".join(reversed(WHOLE.split(","))),
        "X-Matrix " + WHOLE.replace("origin", "ORIGIN").replace("sig", "Sig"),
    ],
)
def test_what_is_read_all_the_same(header: str) -> None:
    """FED-02"""
    assert x_matrix.parse(header) == Credentials(NAME, ServerName("d"), "ed25519:1", "abc")


def test_names_with_ipv6_addresses() -> None:
    """FED-02"""
    for quote in ("", '"'):
        header = (
            f"X-Matrix origin={quote}[::1]:8448{quote},key={quote}ed25519:a{quote},sig={quote}a/b+c=={quote}"
        )
        assert x_matrix.parse(header) == Credentials(ServerName("[::1]:8448"), None, "ed25519:a", "a/b+c==")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer x",
        "X-Matrix",
        "X-Matrix ",
        "X-Matrixorigin=a",
        "X-Matrix " + WHOLE + ',origin="two.example"',
        "X-Matrix " + WHOLE + ',SIG="x"',
        "X-Matrix " + WHOLE.replace('origin="one.example:8448",', ""),
        "X-Matrix " + WHOLE.replace(',sig="abc"', ""),
        "X-Matrix " + WHOLE.replace("one.example:8448", "not a name"),
        "X-Matrix " + WHOLE.replace("one.example:8448", ""),
        "X-Matrix " + WHOLE.replace("one.example:8448", "a" * 300),
        'X-Matrix origin="a,key="b",sig="c"',
        'X-Matrix origin="a" key="b" sig="c"',
        "X-Matrix origin=a;key=b;sig=c",
        "X-Matrix " + WHOLE + ',x="unclosed',
        "X-Matrix " + WHOLE + ',x="\\',
        "X-Matrix " + WHOLE + "," + ",".join(f"x{n}=1" for n in range(100)),
        "X-Matrix " + WHOLE + "," + "x" * 5000 + "=1",
        "X-Matrix " + WHOLE + ", X-Matrix " + WHOLE,
        "X-Matrix origin=é,key=b,sig=c",
        "X-Matrix origin=a\0,key=b,sig=c",
    ],
)
def test_what_is_refused(header: str) -> None:
    """FED-04: 401, whatever it is."""
    with pytest.raises(Unauthorized):
        x_matrix.parse(header)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for header in (text, "X-Matrix " + text, f"X-Matrix {WHOLE},{text}"):
        with contextlib.suppress(Unauthorized):
            x_matrix.parse(header)


_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@given(st.none() | _values, _values, _values)
def test_what_is_written_is_read(destination: str | None, key_id: str, signature: str) -> None:
    written = Credentials(
        ServerName("one.example"),
        None if destination is None else ServerName(destination),
        key_id,
        signature,
    )
    assert x_matrix.parse(x_matrix.header(written)) == written


def test_what_takes_longest_to_refuse_is_refused_at_once() -> None:
    for text in ('"' + "\\" * 4000, "a=" * 2000, " ," * 2000, 'a="' + "\\a" * 2000, " \t" * 2000 + "x"):
        with pytest.raises(Unauthorized):
            x_matrix.parse("X-Matrix " + text)
