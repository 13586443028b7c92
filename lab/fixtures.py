"""Fixtures of pytest for tests that need the laboratory; a conftest.py imports the ones it offers.

They fail where the laboratory cannot run, instead of skipping: a test that silently did not run has proved nothing.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from .netns import left_by, sweep
from .stage import Stage, require_carpd

__all__ = ["build_stage", "carpd", "laboratory", "stage"]


@pytest.fixture(scope="session", autouse=True)
def laboratory() -> Iterator[None]:
    """Require root, remove what killed runs have left, and check that this one leaves nothing."""
    if os.geteuid() != 0:
        pytest.fail("the laboratory makes network namespaces and needs root", pytrace=False)
    sweep()
    yield
    assert left_by(os.getpid()) == [], "namespaces were left behind"


@pytest.fixture
def build_stage() -> Iterator[Callable[..., Stage]]:
    """Build stages with options of a Stage; their logs are shown when the test fails."""
    with ExitStack() as stack:

        def build(**options: bool) -> Stage:
            stage = stack.enter_context(Stage(**options))
            stack.callback(lambda: print(stage.logs()))
            return stage

        yield build


@pytest.fixture
def stage(build_stage: Callable[..., Stage]) -> Stage:
    """Build the usual stage: one switch, nobody on it yet."""
    return build_stage()


@pytest.fixture(scope="session")
def carpd() -> None:
    """Require carpd."""
    try:
        require_carpd()
    except FileNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
