"""Lines that were written for a shell, read without one: quotes and comments are understood, and nothing is ever run.

What a shell would replace by something else, such as $NAME or a command, has no known value here and is refused. No message
shows any of the text: it may hold a pass phrase.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .bsd_words import WordError

_REPLACED = "$`"
_OPERATORS = "|&<>();"
_PROTECTED_IN_QUOTES = '$`"\\\n'
_WHITE_SPACE = " \t\r\n"
_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=")

NEVER_RUN = "a variable or command of the shell ($ or `) is never run: write its value"
NOT_FOR_A_SHELL = "one of |&<>(); outside of quotes is for a shell, and nothing is ever run: put it in quotes"
NO_PARTNER = "a quotation mark has no partner: close it"


@dataclass(frozen=True, slots=True)
class Assignment:
    """NAME=value of a shell file. `line` is its first line, counted from 1; `error` says why the value is not known."""

    line: int
    name: str
    value: str
    error: str = ""


class _Reader:
    """A cursor over shell text; `error` is the first reason why only a shell could say what was read."""

    def __init__(self, text: str, position: int = 0) -> None:
        self.text = text
        self.position = position
        self.error = ""

    @property
    def next(self) -> str:
        """The next character, or "" at the end."""
        return self.text[self.position : self.position + 1]

    def word(self) -> str:
        """Take one word, up to white space or an operator of the shell outside of quotes."""
        parts: list[str] = []
        while self.next and self.next not in _WHITE_SPACE and self.next not in _OPERATORS:
            match self.next:
                case "'":
                    parts.append(self._single())
                case '"':
                    parts.append(self._double())
                case "\\":
                    parts.append(self._escaped())
                case _:
                    parts.append(self._plain())
        return "".join(parts)

    def blame(self, error: str) -> None:
        """Note an error unless there is one."""
        self.error = self.error or error

    def _single(self) -> str:
        start = self.position + 1
        end = self.text.find("'", start)
        if end < 0:
            self.blame(NO_PARTNER)
            end = len(self.text)
        self.position = end + 1
        return self.text[start:end]

    def _double(self) -> str:
        self.position += 1
        parts: list[str] = []
        while self.next and self.next != '"':
            following = self.text[self.position + 1 : self.position + 2]
            is_escape = self.next == "\\" and following and following in _PROTECTED_IN_QUOTES
            parts.append(self._escaped() if is_escape else self._plain())
        if not self.next:
            self.blame(NO_PARTNER)
        self.position += 1
        return "".join(parts)

    def _plain(self) -> str:
        letter = self.next
        if letter in _REPLACED:
            self.blame(NEVER_RUN)
        self.position += 1
        return letter

    def _escaped(self) -> str:
        """Take a backslash and what it protects; with the end of a line both vanish."""
        letter = self.text[self.position + 1 : self.position + 2]
        self.position += 2
        return "" if letter == "\n" else letter


def split_words(line: str) -> list[str]:
    """Split one command as a shell does: quotes hold a word together, a # that begins a word begins a comment.

    Raises:
        WordError: only a shell could say what the words are.
    """
    reader = _Reader(line)
    found: list[str] = []
    while reader.next and not reader.error:
        if reader.next in _WHITE_SPACE:
            reader.position += 1
        elif reader.next == "#":
            break
        elif reader.next in _OPERATORS:
            reader.blame(NOT_FOR_A_SHELL)
        else:
            found.append(reader.word())
    if reader.error:
        raise WordError(reader.error)
    return found


def split_commands(text: str) -> list[str]:
    """Split a text at line ends and semicolons outside of quotes, as NetBSD does with a variable ifconfig_xxN; no comments."""
    commands: list[str] = []
    current, quote, is_comment = "", "", False
    for letter in text + "\n":
        if letter == "\n" or (letter == ";" and not is_comment):
            if not quote:
                commands.append(current.strip())
                current, is_comment = "", False
                continue
        elif letter == "#" and not current.strip():
            is_comment = True
        elif letter in "'\"" and not is_comment:
            quote = "" if quote == letter else quote or letter
        if not is_comment:
            current += letter
    return [command for command in (*commands, current.strip()) if command]


def assignments(text: str) -> Iterator[Assignment]:
    """Yield every NAME=value that begins a command; all other shell is passed over."""
    position, line, counted = 0, 1, 0
    while position < len(text):
        match = _ASSIGNMENT.match(text, position)
        if match is None:
            position = _next_line(text, position)
            continue
        line += text.count("\n", counted, position)
        counted = position
        reader = _Reader(text, match.end())
        value = reader.word()
        yield Assignment(line, match["name"], value, reader.error)
        if reader.error == NO_PARTNER:
            # Otherwise one stray quotation mark would hide the rest of the file.
            reader.position = match.end()
        position = reader.position + (reader.next == ";")


def _next_line(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end + 1
