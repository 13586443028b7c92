"""Fixtures for tests on the real kernel; every test here is marked `lab`."""

from pathlib import Path

import pytest

from lab.fixtures import build_stage, carpd, laboratory, stage

__all__ = ["build_stage", "carpd", "laboratory", "stage"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.lab)
