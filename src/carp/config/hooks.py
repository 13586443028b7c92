"""The hooks of each carp interface: its own, and those of [global] where it has none of the same kind."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from carp.attendant.orders import HookKind
from carp.protocol.values import NANOSECONDS_PER_SECOND

from .model import GlobalTable, HooksTable, InterfaceTable

DEFAULT_TIMEOUT_NS = 10 * NANOSECONDS_PER_SECOND
DEFAULT_PRE_MASTER_DEADLINE_NS = 2 * NANOSECONDS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Hooks:
    """What runs for one carp interface.

    `programs` holds, for each kind that has a hook, the absolute path of the program and its arguments. A hook is ended after
    `timeout_ns`; taking over waits for pre-master at most `pre_master_deadline_ns`. Both are more than 0.
    """

    programs: Mapping[HookKind, tuple[str, ...]] = field(default_factory=dict)
    timeout_ns: int = DEFAULT_TIMEOUT_NS
    pre_master_deadline_ns: int = DEFAULT_PRE_MASTER_DEADLINE_NS


NO_HOOKS = Hooks()


def hooks_of(host: GlobalTable, interface: InterfaceTable) -> Hooks:
    """Merge the hooks of [global] and of one carp interface, whose own ones come first, key by key."""
    tables = [table for table in (host.hooks, interface.hooks) if table is not None]
    programs: dict[HookKind, tuple[str, ...]] = {}
    for table in tables:
        programs |= _programs(table)
    timeouts = [table.timeout for table in tables if table.timeout is not None]
    deadlines = [table.pre_master_deadline for table in tables if table.pre_master_deadline is not None]
    return Hooks(
        # In the order of their kinds, so that equal hooks are also written alike.
        {kind: programs[kind] for kind in HookKind if kind in programs},
        _nanoseconds(timeouts[-1]) if timeouts else DEFAULT_TIMEOUT_NS,
        _nanoseconds(deadlines[-1]) if deadlines else DEFAULT_PRE_MASTER_DEADLINE_NS,
    )


def _programs(table: HooksTable) -> dict[HookKind, tuple[str, ...]]:
    """Return the programs of one table by the kind of their hook."""
    return {kind: argv for kind in HookKind if (argv := getattr(table, kind.value.replace("-", "_"))) is not None}


def _nanoseconds(seconds: float) -> int:
    return round(seconds * NANOSECONDS_PER_SECOND)
