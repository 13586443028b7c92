"""The word that was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the known word most like `word`, or None where none is alike; case and `_` for `-` do not count."""
    close = get_close_matches(word.lower().replace("_", "-"), list(words), n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return "did you mean X?" with the nearest word, or nothing."""
    found = nearest(word, words)
    return f"did you mean {found}?" if found else ""
