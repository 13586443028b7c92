"""Which multicast group a neighbour asks for an IPv6 address."""

from ipaddress import IPv6Address

import pytest

from carp.linux.membership import solicited_node_group


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("4037::1:800:200e:8c6c", "ff02::1:ff0e:8c6c"),
        ("2001:db8::100", "ff02::1:ff00:100"),
        ("fe80::ffff:ffff", "ff02::1:ffff:ffff"),
    ],
)
def test_solicited_node_group(address: str, group: str) -> None:
    """The last three bytes behind ff02::1:ff (RFC 4291, whose own example goes first)."""
    assert IPv6Address(solicited_node_group(IPv6Address(address))) == IPv6Address(group)
