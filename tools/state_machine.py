"""Draws docs/state-machine.md from the table of the state machine; `make docs` runs it, and a test compares.

Usage: python -m tools.state_machine [--check]
"""

import sys
from pathlib import Path

from carp.protocol.table import TABLE, Guard, Input, Row
from carp.protocol.values import State

PAGE = Path(__file__).parent.parent / "docs" / "state-machine.md"

_HEAD = """# The state machine of a virtual host

This page is made from `src/carp/protocol/table.py` by `make docs`; a test fails when it is out of date.

"""


def page() -> str:
    """Return the whole page."""
    return _HEAD + _diagram() + _table()


def _condition(input_: Input, row: Row) -> str:
    return input_.value if row.guard is Guard.ALWAYS else f"{input_.value}: {row.guard.value}"


def _diagram() -> str:
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> INIT"]
    for (state, input_), rows in TABLE.items():
        lines += [
            f"    {state.value} --> {row.next.value}: {_condition(input_, row).replace(':', ' -')}"
            for row in rows
            if row.next is not state
        ]
    return "\n".join([*lines, "```"]) + "\n\n"


def _table() -> str:
    lines = []
    for state in State:
        lines += [f"## {state.value}", "", "| When | If | Then | Next | Reason in the log |", "|---|---|---|---|---|"]
        ignored = []
        for (from_state, input_), rows in TABLE.items():
            if from_state is not state:
                continue
            if len(rows) == 1 and not rows[0].effects and rows[0].next is state:
                ignored.append(input_.value)
                continue
            for row in rows:
                effects = "; ".join(effect.value for effect in row.effects) or "nothing"
                reason = row.reason.value if row.reason is not None else ""
                lines.append(f"| {input_.value} | {row.guard.value} | {effects} | {row.next.value} | {reason} |")
        lines += ["", f"Ignored: {', '.join(ignored)}.", ""]
    return "\n".join(lines)


def main() -> int:
    """Write the page, or with --check tell whether it is up to date."""
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.read_text() == page() else 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
