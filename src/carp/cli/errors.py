"""What a verb of `carp` raises when it cannot do what it was asked for."""

from collections.abc import Iterable

FAILED = 1
WRONG_CONFIGURATION = 2


class CommandError(Exception):
    """A verb failed: each of `sentences` becomes a line on standard error, and `exit_status` ends the program."""

    def __init__(self, sentences: str | Iterable[str], *, exit_status: int = FAILED) -> None:
        self.sentences = (sentences,) if isinstance(sentences, str) else tuple(sentences)
        self.exit_status = exit_status
        super().__init__("\n".join(self.sentences))
