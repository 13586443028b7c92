"""What one line of the BSD words asks of one carp interface, as a value: parsed by `ifconfig`, carried out by `edit`.

It travels as JSON from the command line to the daemon.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class WrittenAddress:
    """An address as it was written, and its prefix length, None where it has to be found out."""

    address: str
    prefix_length: int | None = None

    def __str__(self) -> str:
        return self.address if self.prefix_length is None else f"{self.address}/{self.prefix_length}"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one carp interface.

    `create` demands that it does not exist yet, `destroy` that it does; any other change creates what it needs. `set` holds
    keys of a table of carp.toml with their values (vhid, advbase, advskew, pass, carpdev, carppeer, carpnodes, balancing,
    lladdr, ...), `unset` the keys that go back to their defaults. `state` is init, backup or master: forced once, not kept.
    `up` is None where the line says nothing about it.
    """

    interface: str
    create: bool = False
    destroy: bool = False
    up: bool | None = None
    state: str | None = None
    set: Mapping[str, object] = field(default_factory=dict, repr=False)
    unset: tuple[str, ...] = ()
    add_addresses: tuple[WrittenAddress, ...] = ()
    remove_addresses: tuple[WrittenAddress, ...] = ()
    add_groups: tuple[str, ...] = ()
    remove_groups: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the control API, without what is not asked for."""
        document: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            unasked = value is None if one.name == "up" else not value
            if one.name == "interface" or unasked:
                continue
            if isinstance(value, tuple):
                value = [str(item) for item in value]
            document[one.name.replace("_", "-")] = dict(value) if isinstance(value, Mapping) else value
        return document

    @classmethod
    def from_json(cls, interface: str, document: Mapping[str, object]) -> Self:
        """Read the JSON object of the control API.

        Raises:
            ValueError: with a sentence that names the key and what is allowed.
        """
        known = {one.name.replace("_", "-"): one.name for one in fields(cls) if one.name != "interface"}
        values: dict[str, Any] = {}
        for key, value in document.items():
            if key not in known:
                raise ValueError(f"{key}: unknown key; allowed: {', '.join(known)}")
            values[known[key]] = _READERS[known[key]](key, value)
        return cls(interface, **values)


def _truth(key: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"{key}: {value!r}: true or false is allowed")


def _word(key: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"{key}: {value!r}: a string is allowed")


def _table(key: str, value: object) -> Mapping[str, object]:
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError(f"{key}: an object of keys and values is allowed")


def _strings(key: str, value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise ValueError(f"{key}: {value!r}: a list of strings is allowed")


def _addresses(key: str, value: object) -> tuple[WrittenAddress, ...]:
    return tuple(_written(key, text) for text in _strings(key, value))


def _written(key: str, text: str) -> WrittenAddress:
    address, slash, length = text.partition("/")
    if slash and not (length.isascii() and length.isdigit() and len(length) <= 3):
        raise ValueError(f"{key}: {text!r}: a prefix length is a number")
    return WrittenAddress(address, int(length) if slash else None)


_READERS = {
    "create": _truth,
    "destroy": _truth,
    "up": _truth,
    "state": _word,
    "set": _table,
    "unset": _strings,
    "add_addresses": _addresses,
    "remove_addresses": _addresses,
    "add_groups": _strings,
    "remove_groups": _strings,
}
