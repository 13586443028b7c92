"""Problems of a configuration: one line each, and all of a file at once."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

KeyPath = tuple[str, ...]
"""Where in a document: () the document, (table,), (table, key), and so on into tables within tables."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN_CHARACTERS = 60
_SHOWN_BITS = 128


class RefusedError(ValueError):
    """A value was refused by the rule that reads it.

    `allowed` says what would do. `fault` says what is wrong where "VALUE is not allowed" would not. None of the three texts
    ever holds a pass phrase or a key.
    """

    def __init__(self, allowed: str = "", *, fault: str = "", hint: str = "") -> None:
        super().__init__(fault or allowed)
        self.allowed = allowed
        self.fault = fault
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    `place` is such as `carp.toml: carp0.advskew`; `value` is the refused value as text, or empty where it is secret or there
    is none; `fault` takes the place of "VALUE is not allowed".
    """

    place: str
    value: str = ""
    allowed: str = ""
    hint: str = ""
    fault: str = ""

    def __str__(self) -> str:
        """Write the problem in one line."""
        text = f"{self.place}: " + (self.fault or f"{self.value or 'this value'} is not allowed")
        if self.allowed:
            text += f": {self.allowed}"
        if self.hint:
            text += f"; {self.hint}"
        return text


class ConfigError(Exception):
    """A configuration was refused; `problems` holds everything that is wrong with it, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class Collector:
    """Gathers the problems of one document and puts them into the document's order.

    `place` turns a path into what people read: `carp.toml: carp0.vhid`, or `--vhid`.
    """

    def __init__(self, document: Mapping[str, object], place: Callable[[KeyPath], str]) -> None:
        self._document = document
        self._place = place
        self._found: list[tuple[tuple[int, ...], Problem]] = []

    def add(self, path: KeyPath, refused: RefusedError, value: str = "") -> None:
        """Note that what stands at `path` was refused; `value` is its text, if it may be shown."""
        problem = Problem(self._place(path), value, refused.allowed, refused.hint, refused.fault)
        self._found.append((self._rank(path), problem))

    def ordered(self) -> tuple[Problem, ...]:
        """Return the problems in the order of the document: of a table first the table's own, last the missing keys."""
        return tuple(problem for _, problem in sorted(self._found, key=lambda found: found[0]))

    def _rank(self, path: KeyPath) -> tuple[int, ...]:
        """Number each part of a path by its place in its table; what the document does not hold goes to that table's end."""
        numbers = []
        table: object = self._document
        for word in path:
            keys = list(table) if isinstance(table, Mapping) else []
            numbers.append(keys.index(word) if word in keys else len(keys))
            table = table.get(word) if isinstance(table, Mapping) else None
        return tuple(numbers)


def key_text(path: KeyPath) -> str:
    """Write a path as TOML does: carp0.vhid, with quotes around keys that need them."""
    return ".".join(key if _BARE_KEY.fullmatch(key) else json.dumps(key) for key in path)


def joined(texts: Sequence[str]) -> str:
    """Write a list as people do: a, b and c."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def shown(value: object) -> str:
    """Write a refused value for a message, in one line of bounded length; of lists and tables only what they are."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return "a number that long"
    if isinstance(value, str):
        value = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "..."
        return json.dumps(value)
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return "a date or time"
