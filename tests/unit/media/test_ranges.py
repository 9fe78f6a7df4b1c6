"""Which part of a file is asked for. RFC 9110, 14."""

import pytest

from homeserver.media.delivery import RangeNotSatisfiable, part_asked


@pytest.mark.parametrize(
    ("told", "part"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-", (10, 100)),
        ("bytes=-5", (95, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=90-500", (90, 100)),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=5-1", None),
        ("bytes=-", None),
        ("bytes=99999999999999999999999999-", None),
    ],
)
def test_a_part_of_a_hundred_bytes(told: str | None, part: tuple[int, int] | None) -> None:
    assert part_asked(told, 100) == part


@pytest.mark.parametrize("told", ["bytes=100-", "bytes=200-300", "bytes=-0"])
def test_what_is_not_there_is_refused(told: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        part_asked(told, 100)
    assert refused.value.headers["Content-Range"] == "bytes */100"
