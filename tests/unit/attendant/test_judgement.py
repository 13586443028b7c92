"""From single results to whether a check holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp.attendant.judgement import Judgement


def told(rise: int, fall: int, results: str) -> str:
    """Feed results, + good and - bad; return what was told after each, "." for nothing."""
    judgement = Judgement(rise, fall)
    return "".join(("-", "+")[bool(judgement.holds)] if judgement.add(good=one == "+") else "." for one in results)


@pytest.mark.parametrize(
    ("rise", "fall", "results", "expected"),
    [
        (2, 3, "+", "+"),
        (2, 3, "-", "-"),
        (2, 3, "++++", "+..."),
        (2, 3, "+---", "+..-"),
        (2, 3, "+--+---", "+.....-"),
        (2, 3, "+----", "+..-."),
        (2, 3, "-++", "-.+"),
        (2, 3, "-+-++", "-...+"),
        (2, 3, "+---++---", "+..-.+..-"),
        (1, 1, "+-+-", "+-+-"),
        (3, 1, "-++-+++", "-.....+"),
    ],
)
def test_rise_and_fall(rise: int, fall: int, results: str, expected: str) -> None:
    """The first result counts at once; then `fall` bad ones in a row fail it, and `rise` good ones in a row mend it."""
    assert told(rise, fall, results) == expected


@given(st.integers(1, 5), st.integers(1, 5), st.text("+-", max_size=40))
def test_only_changes_are_told(rise: int, fall: int, results: str) -> None:
    """After the first, whatever is told is the contrary of what was told last."""
    said = told(rise, fall, results).replace(".", "")
    assert said[:1] == results[:1]
    assert "++" not in said
    assert "--" not in said
