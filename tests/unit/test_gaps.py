"""Places in a history with gaps are in one order, and what lies between two of them is found in segments of numbers."""

from hypothesis import given
from hypothesis import strategies as st

from homeserver.graph.gaps import NEWEST, NUMBERS, OLDEST, Gap, first_number, gap_of, segments

GAPS = (Gap(3, 4), Gap(1, 9), Gap(7, 10))
"""Whatever order they were opened in."""
HISTORY = [
    *(1, 2, 3),
    *(first_number(3) - 2, first_number(3) - 1, first_number(3)),
    *(4, 5, 8),
    *(first_number(1) - 1, first_number(1)),
    9,
    first_number(7),
    *(10, 12),
]
"""The oldest first."""
places = st.sampled_from([OLDEST, NEWEST, *HISTORY])


@given(places, places)
def test_segments_are_what_lies_between(after: int, upto: int) -> None:
    order = [OLDEST, *HISTORY, NEWEST]
    end = order.index(upto)
    if upto + 1 in {gap.position for gap in GAPS} and upto > 0:  # with the gap right behind it
        end = order.index(upto + 1) - 1
    expected = [nid for nid in HISTORY if order.index(after) < order.index(nid) <= end]
    found = [
        nid for low, high, _ in segments(GAPS, after, upto) for nid in sorted(HISTORY) if low < nid <= high
    ]
    assert found == expected


def test_numbers_tell_the_gap() -> None:
    assert gap_of(17) == 0
    for gap in (1, 2, 2**27):
        assert gap_of(first_number(gap)) == gap_of(first_number(gap) - NUMBERS + 1) == gap
        assert gap_of(first_number(gap) - NUMBERS) == gap + 1
