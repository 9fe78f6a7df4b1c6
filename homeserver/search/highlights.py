"""Words to be shown as found: as they stand in the results, so that a client finds them there, whatever was folded.

spec: op:search `highlights`
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from homeserver.matrix.cutting import MAX_WORD, Term, is_paired, runs
from homeserver.matrix.folding import fold

MOST: Final = 50
MAX_TEXT: Final = 5_000
"""Characters of a result that are looked at."""


def highlights(term: Term, texts: Iterable[str]) -> list[str]:
    """The words of these texts that the term has found, each once, in the order in which they come."""
    whole = {word[:MAX_WORD] for word in term.words}
    parts = [word for word in term.words if is_paired(word)]
    found: dict[str, None] = {}
    for text in texts:
        for run in runs(text[:MAX_TEXT]):
            if run in found:
                continue
            folded = fold(run)
            if is_paired(folded[:1]):
                found.update(dict.fromkeys(_within(run, folded, part) for part in parts if part in folded))
            elif folded[:MAX_WORD] in whole or (term.prefix is not None and folded.startswith(term.prefix)):
                found[run] = None
            if len(found) >= MOST:
                return list(found)
    return list(found)


def _within(run: str, folded: str, part: str) -> str:
    """A part of a run as it stands there, where folding has moved nothing."""
    at = folded.find(part)
    return run[at : at + len(part)] if len(run) == len(folded) else run
