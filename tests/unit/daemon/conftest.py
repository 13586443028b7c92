"""What the tests of the daemon share."""

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name the control socket, in a folder that does not exist yet."""
    return tmp_path / "run" / "carpd.sock"
