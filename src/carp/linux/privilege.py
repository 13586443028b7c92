"""The privileges that carpd needs, checked before anything is touched."""

import re
from pathlib import Path

_NEEDED = {12: "CAP_NET_ADMIN (to make interfaces and set addresses)", 13: "CAP_NET_RAW (to send and receive CARP packets)"}


def missing_capabilities() -> list[str]:
    """Name the capabilities that this process lacks, each with what it is for."""
    status = Path("/proc/self/status").read_text()
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    effective = int(match[1], 16) if match else 0
    return [name for bit, name in _NEEDED.items() if not effective >> bit & 1]
