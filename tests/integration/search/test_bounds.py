"""What a search may cost: blocks of the log, long searches, many at once. CHECKLIST SRCH-01, SRCH-02."""

from typing import Any

import psycopg
import pytest

from homeserver.search import window
from tests.integration.search.test_search import every, pair
from tests.support.search import bodies, found, indexed, search
from tests.support.server import Server


async def test_a_beginning_that_too_many_words_have_is_taken_for_a_word(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SRCH-01: where the database takes too long over it."""
    room, alice, _ = await pair(server)
    told = await alice.send(room, "the budget")
    await indexed(server)
    assert server.app is not None
    windows = server.app.features.search.service._windows
    newest = windows.newest

    async def impatient(asked: window.Asked, *more: Any) -> window.Window:
        if asked.term.prefix is not None:
            raise psycopg.errors.QueryCanceled
        return await newest(asked, *more)

    monkeypatch.setattr(windows, "newest", impatient)
    assert found(await search(alice, "budg")) == []
    assert found(await search(alice, "budget")) == [told]


async def test_only_so_many_wait_for_their_turn(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """SRCH-01, API-08: 429 as documented, with when to come again."""
    _, alice, _ = await pair(server)
    monkeypatch.setattr(window, "MAX_WAITING", 0)
    answer = await search(alice, "anything", expect=(429, "M_LIMIT_EXCEEDED"))
    assert answer["retry_after_ms"] > 0


@pytest.mark.parametrize("order", ["rank", "recent"])
async def test_what_is_ranked_together_is_bounded_and_the_rest_comes_later(
    server: Server, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """SRCH-02: pages go on into older parts of the log; blocks that have too much are read in smaller ones."""
    room, alice, _ = await pair(server)
    ids = [await alice.send(room, f"hoatzin {n % 4 * 'hoatzin '}") for n in range(23)]
    await indexed(server)
    monkeypatch.setattr(window, "MOST", 7)
    answer = await search(alice, "hoatzin", order_by=order)
    assert answer["count"] == 7
    assert set(found(answer)) == set(ids[-7:]), "the newest ones"
    pages = await every(alice, "hoatzin", order_by=order, filter={"limit": 3})
    assert sorted(pages) == sorted(ids)
    if order == "recent":
        assert pages == ids[::-1]
    by = {"group_by": [{"key": "sender"}]}
    answer = await search(alice, "hoatzin", order_by=order, groupings=by)
    group = answer["groups"]["sender"][alice.user_id]
    rest = await every(alice, "hoatzin", group["next_batch"], order_by=order, groupings=by)
    assert sorted(rest) == sorted(ids[:-7])


@pytest.mark.parametrize("listed", [1e-9, 1e9])
@pytest.mark.parametrize("rooms", [1, 17])
async def test_one_by_one_and_by_the_index_the_same_is_found(
    server: Server, monkeypatch: pytest.MonkeyPatch, rooms: int, listed: float
) -> None:
    """SRCH-01: rare words and common ones, phrases, beginnings; by name of the room or not, beginnings asked for or left."""
    room, alice, _ = await pair(server)
    for _ in range(rooms - 1):
        await alice.create_room()
    texts = ("stork", "storks fly", "fly stork", "stork and fly", "flying stork nests", "京都の鶴")
    ids: dict[str, list[str]] = {text: [] for text in texts}
    for text in texts * 3:
        ids[text].append(await alice.send(room, text))
    await indexed(server)
    terms = ("stork", "stor", "fly stork", '"stork and fly"', "nests sto", '"fly stork"', "鶴", "京都")
    naive = [sorted(await every(alice, term)) for term in terms]
    assert naive[5] == sorted(ids["fly stork"])
    assert [len(each) for each in naive] == [15, 15, 9, 3, 3, 3, 3, 3]
    monkeypatch.setattr(window, "LISTED", listed)
    monkeypatch.setattr(window, "FIRST", 2)
    monkeypatch.setattr(window, "SCANNED", 0)
    assert [sorted(await every(alice, term)) for term in terms] == naive
    monkeypatch.setattr(window, "SCANNED", 32_768)
    assert [sorted(await every(alice, term)) for term in terms] == naive


@pytest.mark.parametrize("order", ["rank", "recent"])
async def test_with_enough_a_long_search_ends_and_goes_on_with_the_next_page(
    server: Server, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """SRCH-02: `count` says what is ranked together; every match is on one of the pages."""
    room, alice, _ = await pair(server)
    ids = [await alice.send(room, f"capercaillie {n}") for n in range(12)]
    await indexed(server)
    few = {"FIRST": 2, "SCANNED": 0, "ENOUGH": 3, "EFFORT": 0, "EXPECTED": 3, "BLOCKS": (("a", 2),)}
    for name, value in few.items():
        monkeypatch.setattr(window, name, value)
    answer = await search(alice, "capercaillie", order_by=order)
    assert 3 <= answer["count"] < 12
    assert set(found(answer)) == set(ids[-answer["count"] :]), "the newest ones"
    assert sorted(await every(alice, "capercaillie", order_by=order, filter={"limit": 2})) == sorted(ids)


async def test_large_answers_end_early(server: Server) -> None:
    """SRCH-02: so many bytes of results, and of what stands around them; the rest with the next page."""
    room, alice, _ = await pair(server)
    ids = [await alice.send(room, f"shoebill {n} " + "x" * 60_000) for n in range(6)]
    await indexed(server)
    context = {"before_limit": 20, "after_limit": 20}
    answer = await search(alice, "shoebill", event_context=context, filter={"limit": 50})
    assert sorted(found(answer)) == sorted(ids)
    assert len(answer["results"][0]["context"]["events_before"]) <= 20
    assert len(await bodies(alice, "shoebill")) == 6
