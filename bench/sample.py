"""What a run writes down: samples, each one repetition of one measure with one program; and the file that holds them."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

Value = float | int | None


@dataclass(frozen=True)
class Sample:
    """One repetition. `case` tells samples of one measure apart; `values` are figures by name, their unit in the name.

    A `fault` says why there are no values.
    """

    measure: str
    case: str
    subject: str
    values: Mapping[str, Value] = field(default_factory=dict)
    fault: str | None = None


@dataclass(frozen=True)
class Spread:
    """A figure over its repetitions."""

    median: float
    least: float
    most: float
    count: int


@dataclass
class Results:
    """A whole run."""

    versions: dict[str, str]
    options: dict[str, float | int | bool]
    machine: dict[str, str | int] = field(default_factory=dict)
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def figures(self, measure: str, case: str, subject: str, value: str) -> list[float]:
        """Return a value of all repetitions in which there was one."""
        return [
            found
            for one in self.samples
            if (one.measure, one.case, one.subject) == (measure, case, subject) and (found := one.values.get(value)) is not None
        ]

    def spread(self, measure: str, case: str, subject: str, value: str) -> Spread | None:
        """Return a value's median and extremes; None where it was never measured."""
        found = self.figures(measure, case, subject, value)
        return Spread(statistics.median(found), min(found), max(found), len(found)) if found else None

    def median(self, measure: str, case: str, subject: str, value: str) -> float | None:
        """Return a value's median, None where it was never measured."""
        found = self.spread(measure, case, subject, value)
        return found.median if found else None

    def cases(self, measure: str) -> list[str]:
        """Return the cases of a measure in the order in which they came."""
        return list(dict.fromkeys(one.case for one in self.samples if one.measure == measure))

    def subjects(self, measure: str, case: str | None = None) -> list[str]:
        """Return the subjects of a measure, or of one case of it."""
        return sorted({one.subject for one in self.samples if one.measure == measure and case in (None, one.case)})

    def faults(self) -> list[Sample]:
        """Return what did not work."""
        return [one for one in self.samples if one.fault]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what `write` has written."""
        document = json.loads(path.read_text())
        samples = [Sample(**one) for one in document.pop("samples")]
        return cls(samples=samples, **document)


def this_machine(processor: Path = Path("/proc/cpuinfo"), memory: Path = Path("/proc/meminfo")) -> dict[str, str | int]:
    """Describe the machine for readers of the figures."""
    return {
        "kernel": platform.release(),
        "processor": _field(processor, "model name"),
        "processors": _count(processor.read_text().splitlines(), "processor"),
        "memory": _field(memory, "MemTotal"),
        "python": platform.python_version(),
    }


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _count(lines: Iterable[str], name: str) -> int:
    return sum(1 for line in lines if line.partition(":")[0].strip() == name)
