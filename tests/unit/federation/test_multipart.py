"""Reading `multipart/mixed` in pieces of every size: CHECKLIST FED-39."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.media.multipart import Malformed, boundary_of, second_part
from federation.media.remote import filename_in


async def cut(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def written(content: bytes, *, boundary: str = "b-1", preamble: bytes = b"", line: bytes = b"") -> bytes:
    mark = b"--" + boundary.encode()
    return b"".join(
        (
            preamble,
            mark + b"\r\nContent-Type: application/json\r\n\r\n{}\r\n",
            mark + b" \t\r\nContent-Type: text/plain\r\ncontent-DISPOSITION:inline\r\n" + line + b"\r\n",
            content + b"\r\n" + mark + b"--\r\nepilogue",
        )
    )


@given(
    content=st.binary(max_size=200)
    | st.sampled_from([b"\r\n--b-", b"\r\n--b", b"--b-1", b"\r\n\r\n", b"\r\n--b\r\n--b-"]),
    size=st.integers(1, 50),
    preamble=st.sampled_from([b"", b"\r\n", b"This is a preamble\r\n"]),
)
async def test_the_second_part_comes_as_it_was_sent(content: bytes, size: int, preamble: bytes) -> None:
    """FED-39."""
    if b"\r\n--b-1" in b"\r\n" + content:
        return
    body = written(content, preamble=preamble)
    part = await second_part("multipart/mixed; boundary=b-1", cut(body, size))
    assert part.headers == {"content-type": "text/plain", "content-disposition": "inline"}
    assert b"".join([piece async for piece in part.pieces]) == content


@given(st.binary(max_size=300), st.integers(1, 40))
async def test_whatever_comes_is_a_part_or_malformed(body: bytes, size: int) -> None:
    for prefix in (b"", b"--b\r\n\r\n{}\r\n--b", b"--b\r\nA: b"):
        try:
            part = await second_part("multipart/mixed; boundary=b", cut(prefix + body, size))
            [_ async for _ in part.pieces]
        except Malformed:
            pass


@pytest.mark.parametrize(
    ("told", "boundary"),
    [
        ("multipart/mixed; boundary=abc", b"abc"),
        ('Multipart/Mixed; Boundary="a b:c"', b"a b:c"),
        ("multipart/mixed;charset=x;boundary=abc; other=y", b"abc"),
        ("multipart/mixed", None),
        ("multipart/form-data; boundary=abc", None),
        ('multipart/mixed; boundary=""', None),
        ("multipart/mixed; boundary=" + "x" * 300, None),
        ("", None),
    ],
)
def test_the_boundary(told: str, boundary: bytes | None) -> None:
    if boundary is None:
        with pytest.raises(Malformed):
            boundary_of(told)
    else:
        assert boundary_of(told) == boundary


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("", None),
        ("inline", None),
        ('attachment; filename="a \\"b\\".txt"', 'a "b".txt'),
        ("attachment; filename=a.txt", "a.txt"),
        ("inline; filename=x; filename*=utf-8''%C3%A4%20b.txt", "ä b.txt"),
        ("inline; filename*=UTF-8''" + "%C3" * 5_000, "\ufffd" * 5),
    ],
)
def test_the_name_of_a_file(told: str, name: str | None) -> None:
    """MEDIA-16."""
    found = filename_in(told)
    assert found == name or (name is not None and found is not None and found.startswith(name))
