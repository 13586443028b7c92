"""What the tests of the attendant share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from attendant_kit import Attendant, Scripts


@pytest.fixture
def attendant() -> Iterator[Attendant]:
    """Start an attendant."""
    started = Attendant()
    yield started
    started.destroy()


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    """Offer a folder for scripts."""
    return Scripts(tmp_path)
