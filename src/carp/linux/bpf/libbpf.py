"""BPF objects by way of libbpf 1.x, the system's library, called through ctypes.

What libbpf would print is kept instead: its last lines are the verifier's and say why the kernel refused a program. Calls of
libbpf release the interpreter lock; one thread at a time may use an object.
"""

import ctypes
import errno
import mmap
import os
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any

_LIBRARY = "libbpf.so.1"
_MESSAGE_BYTES = 256 << 10
_MESSAGES = 64
_WARNING = 0
_REASON_LINES = 3
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})
_ROOM_TO_GROW_BYTES = 256


class FenceUnavailable(Exception):  # noqa: N818 - a state of the host that `carp status` shows, rather than a mishap
    """There can be no fence; the text says why, for an operator."""


class _OpenOptions(ctypes.Structure):
    """The head of struct bpf_object_open_opts; libbpf takes what is left out as zero."""

    _fields_ = (("sz", ctypes.c_size_t), ("object_name", ctypes.c_char_p))


class _TestRunOptions(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class _ProgramInfo(ctypes.Structure):
    """The head of struct bpf_prog_info."""

    _fields_ = (("type", ctypes.c_uint32), ("id", ctypes.c_uint32))


_Print = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_set_print": (ctypes.c_void_p, (_Print,)),
    "bpf_object__open_mem": (ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(_OpenOptions))),
    "bpf_object__load": (ctypes.c_int, (ctypes.c_void_p,)),
    "bpf_object__close": (None, (ctypes.c_void_p,)),
    "bpf_object__find_program_by_name": (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)),
    "bpf_object__find_map_by_name": (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)),
    "bpf_program__fd": (ctypes.c_int, (ctypes.c_void_p,)),
    "bpf_map__fd": (ctypes.c_int, (ctypes.c_void_p,)),
    "bpf_map_update_elem": (ctypes.c_int, (ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64)),
    "bpf_map_lookup_elem": (ctypes.c_int, (ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)),
    "bpf_map_delete_elem": (ctypes.c_int, (ctypes.c_int, ctypes.c_char_p)),
    "libbpf_num_possible_cpus": (ctypes.c_int, ()),
    "bpf_obj_get_info_by_fd": (
        ctypes.c_int,
        (ctypes.c_int, ctypes.POINTER(_ProgramInfo), ctypes.POINTER(ctypes.c_uint32)),
    ),
    "bpf_prog_test_run_opts": (ctypes.c_int, (ctypes.c_int, ctypes.POINTER(_TestRunOptions))),
}


class _Library:
    """The shared library with its prototypes; it prints nothing."""

    def __init__(self, name: str) -> None:
        try:
            self.calls = ctypes.CDLL(name, use_errno=True)
            for function, (result, arguments) in _PROTOTYPES.items():
                found = getattr(self.calls, function)
                found.restype, found.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise FenceUnavailable(f"libbpf 1.1 or newer is not installed (Debian: libbpf1): {error}") from None
        self.messages: deque[str] = deque(maxlen=_MESSAGES)
        self._format = ctypes.CDLL(None).vsnprintf
        self._format.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p)
        self._print = _Print(self._keep)  # libbpf holds no reference to it
        self.calls.libbpf_set_print(self._print)

    def _keep(self, level: int, text: bytes, arguments: int) -> int:
        if level != _WARNING:
            return 0
        # A va_list is a pointer, or passed as one, on every 64-bit platform of Linux.
        buffer = ctypes.create_string_buffer(_MESSAGE_BYTES)
        self._format(buffer, _MESSAGE_BYTES, text, arguments)
        self.messages.extend(line for line in buffer.value.decode(errors="replace").splitlines() if line.strip())
        return 0


@cache
def _library(name: str) -> _Library:
    return _Library(name)


@dataclass(frozen=True, slots=True)
class TestRun:
    """What a program made of a packet: its verdict (TC_ACT_*), nanoseconds on average, and the packet afterwards."""

    __test__ = False  # not a class of tests, whatever pytest thinks of its name

    verdict: int
    duration_ns: int
    packet: bytes


class BpfMap:
    """A map of a loaded object."""

    def __init__(self, library: _Library, descriptor: int) -> None:
        self._library = library
        self._descriptor = descriptor

    def update(self, key: bytes, value: bytes) -> None:
        """Set the value of a key in one step: a reader sees the old one or the new one. Raises OSError."""
        _check(self._library.calls.bpf_map_update_elem(self._descriptor, key, value, 0))

    def delete(self, key: bytes) -> None:
        """Remove a key; one that is not there is no error. Raises OSError."""
        if self._library.calls.bpf_map_delete_elem(self._descriptor, key) and ctypes.get_errno() != errno.ENOENT:
            raise _last_error()

    def update_each_cpu(self, key: bytes, value: bytes) -> None:
        """Set the value of a key for every processor, in a map that has one for each; its size is a multiple of 8. OSError."""
        self.update(key, value * self._processors())

    def lookup_each_cpu(self, key: bytes, size: int) -> list[bytes]:
        """Return the values of a key, one for each processor that the host may have; `size` as above. Raises OSError."""
        values = ctypes.create_string_buffer(size * self._processors())
        _check(self._library.calls.bpf_map_lookup_elem(self._descriptor, key, values))
        return [values.raw[place : place + size] for place in range(0, len(values), size)]

    def mapping(self, size: int, *, writable: bool) -> mmap.mmap:
        """Map the first `size` bytes of an array that was made for it into this process."""
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        return mmap.mmap(self._descriptor, size, flags=mmap.MAP_SHARED, prot=protection)

    def _processors(self) -> int:
        return int(self._library.calls.libbpf_num_possible_cpus())


@dataclass(frozen=True, slots=True)
class Program:
    """A loaded program; `id` is the kernel's number for it, the same in every process and namespace."""

    name: str
    descriptor: int
    id: int


class BpfObject:
    """An object file, loaded into the kernel. What is attached or mapped outlives `close`."""

    def __init__(self, data: bytes, name: str, library: str = _LIBRARY) -> None:
        """Load all programs and maps of an object file.

        Args:
            data: the ELF file.
            name: what the object is called in messages.
            library: the file name of libbpf.

        Raises:
            FenceUnavailable: no library, a broken file, or the kernel refuses.
        """
        self._library = _library(library)
        self._library.messages.clear()
        options = _OpenOptions(ctypes.sizeof(_OpenOptions), name.encode())
        self._handle = self._library.calls.bpf_object__open_mem(data, len(data), ctypes.byref(options))
        if not self._handle:
            raise FenceUnavailable(f"{name} is no BPF object that libbpf understands{self._said()}")
        if self._library.calls.bpf_object__load(self._handle) != 0:
            number = ctypes.get_errno()
            said = self._said()
            self.close()
            raise FenceUnavailable(_why_not_loaded(number, name, said))

    def program(self, name: str) -> Program:
        """Return a program by its name; raises FenceUnavailable if the object has none such."""
        found = self._library.calls.bpf_object__find_program_by_name(self._handle, name.encode())
        if not found:
            raise FenceUnavailable(f"the BPF object has no program {name}")
        descriptor = self._library.calls.bpf_program__fd(found)
        info, size = _ProgramInfo(), ctypes.c_uint32(ctypes.sizeof(_ProgramInfo))
        _check(self._library.calls.bpf_obj_get_info_by_fd(descriptor, ctypes.byref(info), ctypes.byref(size)))
        return Program(name, descriptor, info.id)

    def map(self, name: str) -> BpfMap:
        """Return a map by its name; raises FenceUnavailable if the object has none such."""
        found = self._library.calls.bpf_object__find_map_by_name(self._handle, name.encode())
        if not found:
            raise FenceUnavailable(f"the BPF object has no map {name}")
        return BpfMap(self._library, self._library.calls.bpf_map__fd(found))

    def test_run(self, program: Program, packet: bytes, repeat: int = 1) -> TestRun:
        """Run a program over an Ethernet frame as if it were on the loopback interface (index 1); raises OSError.

        Args:
            program: which one.
            packet: at least 15 bytes, which is what the kernel asks.
            repeat: how often; the duration is the average.
        """
        after = ctypes.create_string_buffer(len(packet) + _ROOM_TO_GROW_BYTES)
        options = _TestRunOptions(
            sz=ctypes.sizeof(_TestRunOptions),
            data_in=ctypes.cast(ctypes.c_char_p(packet), ctypes.c_void_p),
            data_out=ctypes.cast(after, ctypes.c_void_p),
            data_size_in=len(packet),
            data_size_out=len(after),
            repeat=repeat,
        )
        _check(self._library.calls.bpf_prog_test_run_opts(program.descriptor, ctypes.byref(options)))
        verdict = ctypes.c_int32(options.retval).value
        return TestRun(verdict, options.duration, after.raw[: options.data_size_out])

    def close(self) -> None:
        """Give up the object's descriptors."""
        if self._handle:
            self._library.calls.bpf_object__close(self._handle)
            self._handle = None

    def _said(self) -> str:
        # After the verifier's log comes what libbpf thinks of it, and the verifier's own count, which explain nothing.
        lines = [line for line in self._library.messages if not _is_noise(line)]
        return "".join(f"; {line.strip('; ')}" for line in lines[-_REASON_LINES:])


def _is_noise(line: str) -> bool:
    return line.startswith("processed ") or "LOAD LOG --" in line or "failed to load" in line


def _why_not_loaded(number: int, name: str, said: str) -> str:
    if number == errno.EPERM:
        return "the kernel lets this process load no BPF programs: it needs CAP_BPF and CAP_NET_ADMIN, or root"
    if number in _UNSUPPORTED and "trivial BPF program" in said:
        return f"the kernel has no BPF (CONFIG_BPF_SYSCALL){said}"
    return f"the kernel refused {name} ({os.strerror(number)}){said}"


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _check(result: int) -> None:
    if result != 0:
        raise _last_error()
