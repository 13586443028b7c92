"""Which privileges are missing, by the process's own status."""

from pathlib import Path

import pytest

from carp.linux.privilege import missing_capabilities

ADMIN, RAW = 1 << 12, 1 << 13
ADMIN_TEXT = "CAP_NET_ADMIN (to make interfaces and set addresses)"
RAW_TEXT = "CAP_NET_RAW (to send and receive CARP packets)"


@pytest.mark.parametrize(
    ("effective", "missing"),
    [
        ((1 << 41) - 1, []),
        (ADMIN | RAW, []),
        (RAW, [ADMIN_TEXT]),
        (ADMIN, [RAW_TEXT]),
        (0, [ADMIN_TEXT, RAW_TEXT]),
        (((1 << 41) - 1) ^ ADMIN, [ADMIN_TEXT]),
    ],
)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, effective: int, missing: list[str]) -> None:
    """Each with what it is for; only what is effective counts, not what could be had."""
    full = f"{(1 << 41) - 1:016x}"
    status = f"Name:\tcarpd\nCapInh:\t{full}\nCapPrm:\t{full}\nCapEff:\t{effective:016x}\nCapBnd:\t{full}\nCapAmb:\t{full}\n"
    monkeypatch.setattr(Path, "read_text", lambda self: status if str(self) == "/proc/self/status" else "")
    assert missing_capabilities() == missing
