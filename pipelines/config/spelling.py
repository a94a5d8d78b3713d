"""The nearest spelling of a word, for "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]

_LONGEST = 100
_SHOWN = 100


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that looks most like `word`, or None where none does."""
    if not word or len(word) > _LONGEST:
        return None
    by_folded = {candidate.casefold(): candidate for candidate in candidates if len(candidate) <= _LONGEST}
    found = difflib.get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=0.6)
    if found:
        return by_folded[found[0]]
    begun = [
        candidate for folded, candidate in by_folded.items() if len(word) > 1 and folded.startswith(word.casefold())
    ]
    return begun[0] if len(begun) == 1 else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """The tail of a message: `; did you mean 'window'? (allowed: heads, window)`."""
    known = list(candidates)
    near = nearest(word, known)
    shown = ", ".join(known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
    return (f"; did you mean {near!r}?" if near else "") + (f" (allowed: {shown})" if known else "")
