"""Long repetitions; every test here is marked `soak` and `lab`, and adds its figures to the report at the end."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.fixtures import build_stage, carpd, laboratory, stage

__all__ = ["build_stage", "carpd", "laboratory", "stage"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.soak)
            item.add_marker(pytest.mark.lab)


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Add a line to the figures that are printed when all is done."""
    lines: list[str] = []
    request.node.user_properties.append(("figures", lines))
    return lines.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures of every test, passed or not."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, lines in getattr(report, "user_properties", ()):
                if name == "figures" and report.when == "call":
                    for line in lines:
                        terminalreporter.write_line(line)
