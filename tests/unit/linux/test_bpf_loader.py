"""Loading the fence where it cannot be loaded, and choosing the place of a filter."""

import subprocess
import sys
from importlib import resources
from ipaddress import IPv4Address

import pytest

from carp.linux.bpf import libbpf
from carp.linux.bpf.fence import Fence, FenceUnavailable, remove_leftovers
from carp.linux.bpf.tc import PREFERENCE, Filter, Hook, place
from carp.linux.netlink import Netlink

OBJECT = (resources.files("carp.linux.bpf") / "carp.bpf.o").read_bytes()
NO_INTERFACE = 2**31 - 1
LOAD_FROM_R1 = bytes.fromhex("6111280000000000")
LOAD_FROM_R11 = bytes.fromhex("61b1280000000000")
"""A program may read its context through register 1; there is no register 11 to read it through."""


def test_without_libbpf_the_reason_names_the_package() -> None:
    """The operator learns what to install."""
    with pytest.raises(FenceUnavailable, match=r"libbpf 1\.1 or newer is not installed \(Debian: libbpf1\)"):
        libbpf.BpfObject(OBJECT, "carp.bpf.o", library="libbpf.so.999")


def test_another_library_of_that_name_is_no_libbpf() -> None:
    """A library without libbpf's functions is refused like a missing one."""
    with pytest.raises(FenceUnavailable, match="libbpf1"):
        libbpf.BpfObject(OBJECT, "carp.bpf.o", library="libc.so.6")


@pytest.mark.parametrize(
    "data",
    [b"", b"not an object", OBJECT[:100], OBJECT[: len(OBJECT) // 2], b"\x7fELF" + bytes(200), OBJECT[4:]],
    ids=["empty", "text", "head", "half", "magic", "no magic"],
)
def test_a_corrupted_object_is_refused(data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """The reason names the file; nothing is printed."""
    with pytest.raises(FenceUnavailable, match=r"carp\.bpf\.o"):
        Fence.load(data=data)
    assert capfd.readouterr() == ("", "")


def test_an_object_that_the_verifier_refuses_is_explained(capfd: pytest.CaptureFixture[str]) -> None:
    """The reason ends with the verifier's own last line; nothing is printed."""
    assert LOAD_FROM_R1 in OBJECT
    spoiled = OBJECT.replace(LOAD_FROM_R1, LOAD_FROM_R11, 1)
    with pytest.raises(FenceUnavailable, match=r"the kernel refused carp\.bpf\.o .*R11 is invalid") as caught:
        Fence.load(data=spoiled)
    print(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_an_object_without_our_programs_is_refused() -> None:
    """A name that is not there is named."""
    with pytest.raises(FenceUnavailable, match="no program carp_parent_in"):
        Fence.load(data=OBJECT.replace(b"\0carp_parent_in\0", b"\0carp_parent_no\0"))


def test_a_process_without_privilege_learns_what_it_needs() -> None:
    """The capabilities are named."""
    script = "from carp.linux.bpf.fence import Fence\ntry:\n Fence.load()\nexcept Exception as error:\n print(error)"
    line = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", script]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60)
    assert "CAP_BPF and CAP_NET_ADMIN" in done.stdout
    assert done.stderr == ""


def test_after_a_refusal_the_next_load_works() -> None:
    """Nothing of the failed try is in the way, and an object can be loaded twice."""
    with pytest.raises(FenceUnavailable):
        Fence.load(data=b"")
    first, second = Fence.load(), Fence.load()
    first.close()
    second.close()


def test_a_closed_fence_moves_no_deadline() -> None:
    """The memory is gone; a late call fails loudly instead of writing anywhere."""
    fence = Fence.load()
    fence.close()
    with pytest.raises(ValueError, match="released"):
        fence.deadlines.close_slot(0)


def test_too_many_addresses_are_refused() -> None:
    """The map holds 65536 addresses; letting go of them makes room again."""
    fence = Fence.load()
    first = int(IPv4Address("10.0.0.0"))
    try:
        with pytest.raises(FenceUnavailable, match="takes no more entries"):
            fence.set_vips(1, 0, (IPv4Address(first + number) for number in range(65537)))
        fence.set_vips(1, 0, [])
        fence.set_vips(1, 1, [IPv4Address(first)])
    finally:
        fence.close()


def test_an_interface_that_is_gone_cannot_be_guarded() -> None:
    """The reason says so; removing from it does nothing."""
    fence, netlink = Fence.load(), Netlink()
    try:
        with pytest.raises(FenceUnavailable, match=f"interface {NO_INTERFACE} is gone"):
            fence.guard_parent(netlink, NO_INTERFACE)
        with pytest.raises(FenceUnavailable, match="is gone"):
            fence.guard_link(netlink, NO_INTERFACE, 0)
        fence.unguard_parent(netlink, NO_INTERFACE, remove_qdisc=True)
        assert not fence.is_guarded(netlink, NO_INTERFACE)
        assert remove_leftovers(netlink, [NO_INTERFACE], qdiscs=[NO_INTERFACE]) == []
    finally:
        netlink.close()
        fence.close()


def other(preference: int, kind: str = "flower", ether_type: int = 0x0800, chain: int = 0) -> Filter:
    """Return a filter of somebody else."""
    return Filter(Hook.INGRESS, preference, ether_type, 1, kind, chain, "", 0)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], PREFERENCE),
        ([other(49152)], PREFERENCE),
        ([other(PREFERENCE)], PREFERENCE - 1),
        ([other(50), other(10)], 9),
        ([other(2)], 1),
        ([other(1)], 2),
        ([other(1), other(2)], 3),
        ([other(1, "bpf", 0x0003)], 1),
        ([other(1, "bpf", 0x0800)], 2),
        ([other(1), other(2, "bpf", 0x0003)], 2),
        ([other(1, chain=3)], PREFERENCE),
    ],
)
def test_a_filter_goes_before_those_of_others(others: list[Filter], expected: int) -> None:
    """Before all of them, or, where somebody has preference 1, as early as can be."""
    assert place(others) == expected
