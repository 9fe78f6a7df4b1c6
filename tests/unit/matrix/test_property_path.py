"""Paths with dots in push rules and filters."""

import pytest

from homeserver.matrix.property_path import join_path, split_path
from tests.support.vectors import vectors


def test_filt_03_the_vectors_of_the_specification() -> None:
    for case in vectors("dotted_paths")["cases"]:
        assert split_path(case["path"]) == case["keys"]


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("", [""]),
        (".", ["", ""]),
        ("a..b", ["a", "", "b"]),
        ("a.", ["a", ""]),
        ("a\\", ["a\\"]),
        (r"a\\.b", ["a\\", "b"]),
        (r"a\\\.b", ["a\\.b"]),
        ("a\n.b", ["a\n", "b"]),
    ],
)
def test_corners(path: str, keys: list[str]) -> None:
    assert split_path(path) == keys


def test_what_was_joined_is_split_again() -> None:
    for keys in (["content", "m.relates_to", "a\\b"], [""], ["a", "", "."]):
        assert split_path(join_path(keys)) == keys
