"""What is raised when something that was asked for is not done."""

from collections.abc import Sequence


class ChangeRefusedError(Exception):
    """A change is not made, and nothing is changed; `problems` are sentences."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


class UnknownNameError(ChangeRefusedError):
    """What was to be changed does not exist."""
