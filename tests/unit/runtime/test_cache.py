"""Caches that share a budget of bytes."""

from hypothesis import given
from hypothesis import strategies as st

from homeserver.runtime.cache import Cache, MemoryBudget


def test_the_least_recently_used_go_first() -> None:
    cache: Cache[str, str] = MemoryBudget(30).cache("words", 1)
    for name in "abc":
        cache.put(name, name, 10)
    assert cache.get("a") == "a"
    cache.put("d", "d", 10)
    assert [name for name in "abcd" if name in cache] == ["a", "c", "d"]


def test_a_cache_grows_into_what_others_leave_and_gives_it_back() -> None:
    budget = MemoryBudget(100)
    large, small = budget.cache("large", 3), budget.cache("small", 1)
    for number in range(10):
        small.put(number, number, 10)
    assert len(small) == 10, "nobody else wants it"
    for number in range(20):
        large.put(number, number, 10)
    assert (large.size, small.size) == (70, 30) or (large.size, small.size) == (80, 20)
    assert budget.used == 100


def test_a_value_that_changes_leaves_nothing_behind() -> None:
    budget = MemoryBudget(100)
    cache = budget.cache("words", 1)
    cache.put("a", "a", 10)
    cache.put("a", "b", 40)
    cache.resize("a", 5)
    cache.resize("unknown", 50)
    assert (cache.size, budget.used) == (5, 5)
    assert cache.pop("a") == "b"
    assert cache.pop("a") is None
    assert (cache.size, budget.used) == (0, 0)


def test_what_is_in_use_stays_and_what_goes_is_told() -> None:
    told: list[str] = []
    budget = MemoryBudget(30)
    cache = budget.cache(
        "words", 1, may_go=lambda value: value != "busy", gone=lambda key, _: told.append(key)
    )
    cache.put("a", "busy", 10)
    cache.put("b", "idle", 10)
    cache.put("c", "idle", 20)
    assert (told, "a" in cache, budget.evicted) == (["b"], True, 1)


def test_what_alone_is_larger_than_the_budget_is_kept_until_the_next_comes() -> None:
    """Who asked for it would never get it otherwise."""
    cache = MemoryBudget(30).cache("words", 1)
    cache.put("a", "a", 100)
    assert cache.get("a") == "a"
    cache.put("b", "b", 100)
    assert (cache.get("a"), cache.get("b")) == (None, "b")


def test_a_full_budget_is_freed_in_part_at_once() -> None:
    """To choose the cache for each value costs more than to forget it."""
    budget = MemoryBudget(256 * 100)
    one, other = budget.cache("one", 1), budget.cache("other", 1)
    for number in range(256):
        one.put(number, number, 10)
        other.put(number, number, 90)
    assert budget.used == budget.limit
    other.put("one more", 0, 10)
    assert budget.limit - 190 <= budget.used <= budget.limit - 100
    assert len(one) == 256, "the other one is larger"


def test_what_is_freed_at_once_comes_from_whoever_is_largest_then() -> None:
    budget = MemoryBudget(1_000)
    large, *others = [budget.cache(str(number), 1) for number in range(3)]
    for number in range(50):
        large.put(number, number, 5)
        for cache in others:
            cache.put(number, number, 7)
    large.put("large", 0, 600)
    assert list(map(len, (large, *others))) == [1, 28, 28]
    assert budget.used == 600 + 2 * 28 * 7


acts = st.tuples(
    st.sampled_from(["put", "put", "put", "get", "pop", "resize", "clear"]),
    st.integers(0, 2),
    st.integers(0, 8),
    st.integers(0, 40),
)


@given(st.lists(acts, max_size=60))
def test_sizes_add_up_whatever_happens(history: list[tuple[str, int, int, int]]) -> None:
    budget = MemoryBudget(100)
    caches = [budget.cache(str(share), share) for share in (1, 2, 3)]
    for act, which, key, size in history:
        cache = caches[which]
        match act:
            case "put":
                cache.put(key, "value", size)
            case "get":
                cache.get(key)
            case "pop":
                cache.pop(key)
            case "resize":
                cache.resize(key, size)
            case _:
                cache.clear()
        assert budget.used == sum(each.size for each in caches)
        assert all(
            each.size == sum(each._sizes.values()) and len(each) == len(each._sizes) for each in caches
        )
        assert budget.used <= budget.limit or all(len(each) <= 1 for each in caches)
