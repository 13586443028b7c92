"""What a track may check: addresses, prefixes, names, paths and places of the network, read from single words.

Each function takes what a person wrote, of whatever type, and returns the word as the attendant takes it, or raises
RefusedError.
"""

import re
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from carp.protocol.values import Address

from . import words
from .errors import RefusedError

MAX_PROCESS_BYTES = 15
"""What Linux keeps of a process's name (TASK_COMM_LEN without its NUL)."""

INTERFACE = f"the name of an interface that is no carp interface, 1..{words.MAX_NAME_BYTES} bytes"
ADDRESS = "an IPv4 or IPv6 address of this host without a prefix length, such as 192.0.2.1"
ROUTE = "default, or a prefix such as 192.0.2.0/24"
PROCESS = f"the name of a process, 1..{MAX_PROCESS_BYTES} bytes without slash, as ps -e shows it"
PATH = "the absolute path of a file"
SOCKET = "the absolute path of a socket, at most 107 bytes without white space and quotes"
TCP = '"HOST:PORT" or "[IPV6]:PORT", with port 1..65535'
HTTP = "a URL such as https://192.0.2.1/health, with http or https and a host"
PING = "an IPv4 or IPv6 address of one host, such as 192.0.2.1, or fe80::1%eth0"

DEFAULT_ROUTE = "default"

_MAX_PATH_BYTES = 4095
_MAX_SOCKET_BYTES = 107
"""Of struct sockaddr_un without its NUL."""

_MAX_URL_CHARACTERS = 2000
_MAX_HOST_CHARACTERS = 253
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_HOST_AND_PORT = re.compile(r"(\[(?P<v6>[^\[\]]*)\]|(?P<host>[^\[\]:]*)):(?P<port>.*)", re.DOTALL)


def interface(word: object) -> str:
    """Check the name of an interface to be watched; the link of a carp interface tells only whether it is MASTER."""
    try:
        return words.carpdev(word)
    except RefusedError:
        raise RefusedError(INTERFACE) from None


def address(word: object) -> str:
    """Read an address that this host may have; the interface of a link-local one is told by `device`."""
    found = _ip(word, ADDRESS)
    if _scope(found):
        raise RefusedError(ADDRESS, hint=f'write "{str(found).partition("%")[0]}" and device = "{_scope(found)}"')
    if found.is_unspecified or found.is_multicast:
        raise RefusedError("an address that a host can have: not unspecified or multicast")
    return str(found)


def route(word: object) -> str:
    """Read the prefix of a route, written as the kernel would, so that it is found again."""
    if word == DEFAULT_ROUTE:
        return DEFAULT_ROUTE
    if not isinstance(word, str) or "%" in word:
        raise RefusedError(ROUTE)
    try:
        found = str(ip_network(word, strict=False))
    except ValueError:
        raise RefusedError(ROUTE) from None
    if word != found:
        raise RefusedError(ROUTE, hint=f"write {found}")
    return found


def process(word: object) -> str:
    """Check the name of a process; of a program it is the last part of its path."""
    if not isinstance(word, str) or not word.isprintable() or not 1 <= len(word.encode()) <= MAX_PROCESS_BYTES or "/" in word:
        last = word.rpartition("/")[2] if isinstance(word, str) else ""
        meant = 0 < len(last) <= MAX_PROCESS_BYTES and last != word
        raise RefusedError(PROCESS, hint=f"write {last}" if meant and last.isprintable() else "")
    return word


def path(word: object) -> str:
    """Check the path of a file that need not be there yet."""
    if not isinstance(word, str) or not word.startswith("/") or "\0" in word or len(word.encode()) > _MAX_PATH_BYTES:
        raise RefusedError(PATH)
    return word


def socket(word: object) -> str:
    """Check the path of a unix socket that need not be there yet, and that conntrackd.conf can name."""
    found = path(word) if isinstance(word, str) and word.startswith("/") else ""
    if not 1 < len(found.encode()) <= _MAX_SOCKET_BYTES or not found.isprintable() or set(found) & set(" \"'"):
        raise RefusedError(SOCKET)
    return found


def tcp(word: object) -> str:
    """Check a place to connect to; a link-local address has its interface with it."""
    match = _HOST_AND_PORT.fullmatch(word) if isinstance(word, str) else None
    if match is None or not _is_port(match["port"]):
        raise RefusedError(TCP)
    if match["v6"] is None:
        if not _is_host(match["host"]):
            raise RefusedError(TCP)
        return match[0]
    return f"[{_reachable(match['v6'], TCP, 6)}]:{match['port']}"


def http(word: object) -> str:
    """Check a URL; what it holds is shown to everybody, so it may not hold a password."""
    if not isinstance(word, str):
        raise RefusedError(HTTP)
    if "@" in word.partition("//")[2].partition("/")[0]:
        raise RefusedError("a URL without user and password", fault="it would be shown with its password")
    if not word.isascii() or not word.isprintable() or " " in word:
        raise RefusedError(HTTP, hint="other characters than printable ASCII are written as %XX")
    try:
        parts = urlsplit(word)
    except ValueError:
        raise RefusedError(HTTP) from None
    match = _HOST_AND_PORT.fullmatch(parts.netloc) or _HOST_AND_PORT.fullmatch(f"{parts.netloc}:80")
    if match is None or not _is_port(match["port"]) or parts.scheme not in ("http", "https") or len(word) > _MAX_URL_CHARACTERS:
        raise RefusedError(HTTP)
    if "#" in word:
        raise RefusedError("a URL without #, which no server is told")
    if match["v6"] is None:
        if not _is_host(match["host"]):
            raise RefusedError(HTTP)
    elif _ip(match["v6"], HTTP).is_link_local:
        raise RefusedError("a host name, or an address that is not link-local: a URL cannot name the interface")
    else:
        _reachable(match["v6"], HTTP, 6)
    return word


def ping(word: object) -> str:
    """Read the address of a host; a link-local one is written with its interface, as every interface has that network."""
    return _reachable(word, PING)


def _reachable(word: object, allowed: str, version: int = 0) -> str:
    """Read the address of one host, this one too, of IPv4 or IPv6 alone where `version` is 4 or 6."""
    found = _ip(word, allowed)
    if version and found.version != version:
        raise RefusedError(allowed)
    if found.is_unspecified or found.is_multicast or found == words.BROADCAST:
        raise RefusedError("an address of one host: not unspecified, multicast or broadcast")
    scope = _scope(found)
    if found.version == 6 and found.is_link_local and not scope:
        raise RefusedError("a link-local address with its interface", hint=f"write it as {found}%eth0")
    if scope:
        if not found.is_link_local:
            raise RefusedError("an interface with a link-local address alone", hint=f"write it without %{scope}")
        interface(scope)
    return str(found)


def _ip(word: object, allowed: str) -> Address:
    try:
        if isinstance(word, str):
            return ip_address(word)
    except ValueError:
        pass
    raise RefusedError(allowed)


def _scope(found: Address) -> str:
    return (found.scope_id or "") if isinstance(found, IPv6Address) else ""


def _is_host(word: str) -> bool:
    """Tell whether a word is an IPv4 address of one host, or a name; what ends in a number can only be the former."""
    labels = word.removesuffix(".").split(".")
    if labels[-1].isdigit():
        try:
            _reachable(word, TCP, 4)
        except RefusedError:
            return False
        return True
    return len(word) <= _MAX_HOST_CHARACTERS and all(_LABEL.fullmatch(label) for label in labels)


def _is_port(word: str) -> bool:
    return _PORT.fullmatch(word) is not None and int(word) <= 65535
