"""What the command lines of the BSDs have in common: how a word is refused, and words with a value of their own kind.

`ifconfig`, `sysctl` and the boot files are read with these. No message shows a word that may be part of a pass phrase.
"""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from .errors import RefusedError, shown
from .hints import did_you_mean

_Value = TypeVar("_Value")

_NUMBER = re.compile(r"-?[0-9]{1,18}")
_LONGEST_AS_WRITTEN = 60
_OTHER_WHITE_SPACE = re.compile(r"\s")


class WordError(ValueError):
    """A word of a command line was refused; the message is one sentence that names the word and what is allowed."""


def written(word: str) -> str:
    """Write a refused word as it was typed, or in quotes and cut where it would spoil the line."""
    plain = word and word.isprintable() and len(word) <= _LONGEST_AS_WRITTEN and not _OTHER_WHITE_SPACE.search(word)
    return word if plain else shown(word)


def missing(keyword: str, allowed: str) -> WordError:
    """Return the error of a keyword whose value is not there."""
    return WordError(f"{keyword}: its value is missing: {allowed}")


def wrong(keyword: str, word: str, allowed: str, hint: str = "") -> WordError:
    """Return the error of a keyword whose value is not allowed."""
    return WordError(f"{keyword}: {written(word)}: {allowed}" + (f"; {hint}" if hint else ""))


def unknown(word: str, known: Iterable[str], allowed: str) -> WordError:
    """Return the error of a word that nothing begins with: with the word that was probably meant, else with what is allowed."""
    return WordError(f"{written(word)}: unknown word{_or_else(word, known, allowed)}")


def _or_else(word: str, known: Iterable[str], allowed: str) -> str:
    hint = did_you_mean(word, known)
    return f"; {hint}" if hint else f": {allowed}"


def integer(keyword: str, word: str, low: int, high: int) -> int:
    """Read a decimal number within its range.

    Raises:
        WordError: it is none.
    """
    if _NUMBER.fullmatch(word) and low <= int(word) <= high:
        return int(word)
    raise wrong(keyword, word, f"an integer {low}..{high}")


def checked(keyword: str, word: str, read: Callable[[object], _Value], *, secret: bool = False) -> _Value:
    """Read a word by a rule of carp.toml; where that refuses it, say so as the command lines do.

    Raises:
        WordError: the rule refuses it.
    """
    try:
        return read(word)
    except RefusedError as refused:
        what = refused.fault or ("" if secret else written(word))
        parts = [keyword, what, refused.allowed]
        sentence = ": ".join(part for part in parts if part)
        raise WordError(f"{sentence}; {refused.hint}" if refused.hint else sentence) from None
