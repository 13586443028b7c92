"""The routing socket on the real kernel: many requests in one write, and what is heard of changes."""

import errno
from collections.abc import Iterator
from ipaddress import ip_interface
from socket import if_nametoindex

import pytest

from carp.linux.netlink import Monitor, Netlink, OverflowedError
from carp.linux.rtnetlink import (
    RTM_DELADDR,
    RTM_NEWADDR,
    delete_address,
    get_addresses,
    new_address,
    parse_address,
    set_link,
)
from lab.netns import Namespace

ADDRESSES = [ip_interface(f"10.1.{number >> 8}.{number & 255}/32") for number in range(1, 601)]


@pytest.fixture
def index() -> Iterator[int]:
    """Live in a namespace with a link; return its index."""
    namespace = Namespace("netlink")
    try:
        with namespace.entered():
            namespace.ip("link add eth0 type veth peer name far")
            yield if_nametoindex("eth0")
    finally:
        namespace.delete()


def present(netlink: Netlink) -> set[str]:
    """List the addresses that are set, but for the kernel's own."""
    found = [parse_address(body).address for body in netlink.dump(get_addresses())]
    return {str(address) for address in found if not address.ip.is_loopback}


def test_more_than_one_write_can_carry(index: int) -> None:
    """Everything is set, and every refusal is told with its position in the whole; the next request has its own answers."""
    netlink = Netlink()
    batch = [new_address(index, address, 0) for address in ADDRESSES]
    wrong = [3, 499, 500, len(batch) - 1]
    for place in wrong:
        batch[place] = new_address(index + 1000, ADDRESSES[place], 0)
    refused = netlink.execute(batch)
    assert [(error.position, error.errno) for error in refused] == [(place, errno.ENODEV) for place in wrong]
    assert present(netlink) == {str(address) for place, address in enumerate(ADDRESSES) if place not in wrong}
    assert netlink.execute([]) == []
    assert netlink.execute([set_link(index, up=True)]) == []
    (error,) = netlink.execute([delete_address(index, ADDRESSES[3])])
    assert (error.position, error.errno) == (0, errno.EADDRNOTAVAIL)
    netlink.close()


def test_prepared_messages_can_be_sent_again(index: int) -> None:
    """Sending patches a copy."""
    netlink = Netlink()
    batch = [new_address(index, ADDRESSES[0], 0), new_address(index, ADDRESSES[1], 0)]
    former = list(map(bytes, batch))
    for _ in range(2):
        assert netlink.execute(batch) == []
    assert batch == former
    netlink.close()


def test_changes_are_heard_in_their_order(index: int) -> None:
    """Each with its kind and its whole body; then there is nothing more."""
    netlink, monitor = Netlink(), Monitor()
    netlink.execute([new_address(index, address, 0) for address in ADDRESSES])
    netlink.execute([delete_address(index, ADDRESSES[0])])
    changes = [(kind, parse_address(body)) for kind, body in monitor.drain() if kind in (RTM_NEWADDR, RTM_DELADDR)]
    assert [kind for kind, _ in changes] == [RTM_NEWADDR] * len(ADDRESSES) + [RTM_DELADDR]
    assert [(one.index, one.address) for _, one in changes] == [(index, address) for address in [*ADDRESSES, ADDRESSES[0]]]
    assert monitor.drain() == []
    monitor.close()
    netlink.close()


def test_what_is_lost_is_said(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then everything has to be read again; what comes after that is heard."""
    monkeypatch.setattr("carp.linux.netlink._RECEIVE_BUFFER_BYTES", 4096)
    netlink, monitor = Netlink(), Monitor()
    netlink.execute([new_address(index, address, 0) for address in ADDRESSES])
    with pytest.raises(OverflowedError):
        monitor.drain()
    while monitor.drain():
        pass
    netlink.execute([delete_address(index, ADDRESSES[0])])
    assert [kind for kind, _ in monitor.drain() if kind in (RTM_NEWADDR, RTM_DELADDR)] == [RTM_DELADDR]
    monitor.close()
    netlink.close()
