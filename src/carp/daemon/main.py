"""The program `carpd`: checks everything before it touches anything, then runs until it is told to stop.

Exit status: 0 stopped cleanly, 1 this host cannot run it, 2 wrong usage or configuration.
"""

import argparse
import asyncio
import logging
import logging.handlers
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from ..config import oneline
from ..config.errors import ConfigError
from ..config.load import DEFAULT_PATH, Configuration, load_file
from ..linux import carplink, sysctl
from ..linux.journal import Journal, LockedError
from ..linux.links import LinkTable
from ..linux.netlink import Netlink
from ..linux.privilege import missing_capabilities
from ..linux.realtime import become_realtime
from ..linux.rtnetlink import CARP_ADDRESS_PROTOCOL
from ..protocol.parameters import InterfaceParameters
from . import status
from .chronicle import Chronicle, logger
from .control import Control, SocketInUseError
from .fencing import Fencing, remove_left_filters
from .runtime import Runtime, StartError

DEFAULT_SOCKET = Path("/run/carp/carpd.sock")
_DEFAULT_STATE_DIRECTORY = Path("/var/lib/carp")
_SYSLOG = "/dev/log"
_SWITCH_INTERVAL_S = 0.0005
DONE, FAILED, WRONG = 0, 1, 2


def main() -> int:
    """Run carpd with the arguments of the command line."""
    parser = _parser()
    arguments = parser.parse_intermixed_args()
    if arguments.config is not None and oneline.is_given(arguments):
        parser.error("--config and the options of one interface exclude each other")
    try:
        configuration = _load(arguments)
    except ConfigError as error:
        for problem in error.problems:
            print(f"carpd: {problem}", file=sys.stderr)
        return WRONG
    if arguments.check:
        for warning in configuration.warnings:
            print(f"carpd: warning: {warning}", file=sys.stderr)
        print(f"carpd: configuration ok, {len(configuration.host.interfaces)} interface(s)")
        return DONE
    missing = missing_capabilities()
    if missing:
        print(f"carpd: cannot run without {' and '.join(missing)}: start it as root or grant it", file=sys.stderr)
        return FAILED
    _start_log(syslog=arguments.syslog)
    return _run(arguments, configuration)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "carpd",
        allow_abbrev=False,
        description="Shares IP addresses between hosts with CARP, the Common Address Redundancy Protocol of the BSDs.",
        epilog=f"Without --config and without the options of one interface it reads {DEFAULT_PATH}.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration, carp.toml")
    parser.add_argument("-n", dest="check", action="store_true", help="check the configuration and exit")
    parser.add_argument("--socket", type=Path, metavar="PATH", help=f"the control socket ({DEFAULT_SOCKET})")
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help=f"the state directory ({_DEFAULT_STATE_DIRECTORY})")
    parser.add_argument("--version", action="version", version=f"carpd {version('carpd')}")
    parser.add_argument("--syslog", action="store_true", help="log to syslog instead of stderr")
    oneline.add_arguments(parser)
    return parser


def _load(arguments: argparse.Namespace) -> Configuration:
    if oneline.is_given(arguments):
        return oneline.from_arguments(arguments)
    return load_file(arguments.config or DEFAULT_PATH)


def _start_log(*, syslog: bool) -> None:
    handler: logging.Handler = logging.StreamHandler()
    form = "carpd: %(message)s"
    if syslog and Path(_SYSLOG).exists():
        handler = logging.handlers.SysLogHandler(_SYSLOG, logging.handlers.SysLogHandler.LOG_DAEMON)
        form = f"carpd[{os.getpid()}]: %(message)s"
    handler.setFormatter(logging.Formatter(form))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    if syslog and not Path(_SYSLOG).exists():
        logger.warning("warning: there is no %s: logging to stderr", _SYSLOG)


def _run(arguments: argparse.Namespace, configuration: Configuration) -> int:
    directory = arguments.state_dir or Path(os.environ.get("STATE_DIRECTORY", _DEFAULT_STATE_DIRECTORY))
    try:
        journal = Journal(directory)
    except LockedError as error:
        logger.error("%s", error)
        return WRONG
    except OSError as error:
        logger.error("the state directory %s cannot be used: %s", directory, error.strerror)
        return FAILED
    try:
        return _run_locked(arguments, configuration, journal)
    finally:
        journal.close()


def _run_locked(arguments: argparse.Namespace, configuration: Configuration, journal: Journal) -> int:
    socket_path = arguments.socket or Path(os.environ.get("CARP_SOCKET", DEFAULT_SOCKET))
    netlink = Netlink()
    table = LinkTable()
    table.load(netlink)
    problems = host_problems(configuration.host.interfaces, table, journal.link_group)
    try:
        Control(socket_path, {}).check()
    except SocketInUseError as error:
        problems.append(str(error))
    if problems:
        for problem in problems:
            logger.error("%s", problem)
        return WRONG
    for warning in (*configuration.warnings, *sysctl.host_warnings()):
        logger.warning("warning: %s", warning)
    leftovers = journal.left_by_a_crash()
    if leftovers is not None:
        removed = carplink.clean_up(netlink, leftovers, journal.link_group)
        removed += remove_left_filters(netlink, journal, leftovers)
        logger.warning("removed what a crashed run left: %s", ", ".join(removed) or "settings only")
        journal.forget()
    netlink.close()
    _prepare_process(realtime=configuration.realtime)
    fencing = Fencing(configuration.fence, journal, partial(logger.warning, "warning: %s"))
    if fencing.unavailable and configuration.fence == "required":
        logger.error('fence = "required", but there is none: %s', fencing.unavailable)
        return FAILED
    if fencing.unavailable and configuration.fence == "auto":
        logger.warning("warning: no fence, a killed carpd goes on answering: %s", fencing.unavailable)
    runtime = partial(Runtime, journal, Chronicle(configuration.log), fencing)
    return asyncio.run(_serve(arguments, configuration, runtime, journal.link_group, socket_path))


def _prepare_process(*, realtime: bool) -> None:
    # The worker thread may hold the interpreter for this long before the loop gets it back.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # Seven settings of each carp interface are kept open.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for refusal in become_realtime() if realtime else ():
        logger.warning("warning: %s", refusal)


def host_problems(interfaces: tuple[InterfaceParameters, ...], table: LinkTable, link_group: int) -> list[str]:
    """List what keeps this host from carrying these carp interfaces, as sentences."""
    problems = []
    for parameters in interfaces:
        if table.by_name(parameters.carpdev) is None:
            names = ", ".join(sorted(link.name for link in table.all() if link.group != link_group))
            problems.append(
                f"{parameters.name}.carpdev: there is no interface {parameters.carpdev} on this host; it has {names}"
            )
        existing = table.by_name(parameters.name)
        if existing is not None and existing.group != link_group and parameters.mac is not None:
            problems.append(
                f"{parameters.name}: an interface of this name exists already and is not of this carpd: remove it (ip link del"
                f" {parameters.name}), choose another name, or use the --state-dir of the carpd that made it"
            )
        problems += _conflicts(parameters, table, link_group)
    return problems


def _conflicts(parameters: InterfaceParameters, table: LinkTable, link_group: int) -> list[str]:
    """Name what on this host already has the MAC or an address of a carp interface."""
    found = []
    wanted = {address.ip for address in parameters.addresses}
    parent = table.by_name(parameters.carpdev)
    for link in table.all():
        if link.group == link_group:
            continue
        same_mac = parent is not None and link.parent_index == parent.index and link.mac == parameters.mac
        if same_mac and link.name != parameters.name:
            vhid = f"vhid {parameters.leader.vhid} on {parameters.carpdev}"
            found.append(f"{parameters.name}: {vhid} is held by {link.name} already, of another daemon")
        own = [one.address.ip for one in table.addresses(link.index) if one.protocol != CARP_ADDRESS_PROTOCOL]
        found += [
            f"{parameters.name}.addresses: {address} is this host's own address on {link.name}: share another one"
            for address in own
            if address in wanted
        ]
    return found


async def _serve(
    arguments: argparse.Namespace,
    configuration: Configuration,
    make_runtime: Callable[[], Runtime],
    link_group: int,
    socket_path: Path,
) -> int:
    stopping = asyncio.Event()
    reloads: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reloads.put_nowait, None)
    runtime = make_runtime()
    control = Control(socket_path, {"/v1/status": partial(status.document, runtime)})
    reloader = None
    result = DONE
    try:
        await runtime.start(configuration)
        await control.start()
        source = configuration.path or "the command line"
        logger.info("started: %d carp interface(s) of %s", len(configuration.host.interfaces), source)
        reloader = asyncio.create_task(_reload_when_told(reloads, arguments, runtime, link_group))
        await stopping.wait()
    except StartError as error:
        for problem in error.problems:
            logger.error("%s", problem)
        result = FAILED
    except OSError as error:
        logger.error("cannot start: %s", error)
        result = FAILED
    finally:
        if reloader is not None:
            reloader.cancel()
        await runtime.stop()
        await control.stop()
        logger.info("stopped")
    return result


async def _reload_when_told(
    reloads: asyncio.Queue[None], arguments: argparse.Namespace, runtime: Runtime, link_group: int
) -> None:
    while True:
        await reloads.get()
        try:
            configuration = await asyncio.to_thread(_load, arguments)
        except ConfigError as error:
            _refuse([str(problem) for problem in error.problems])
            continue
        problems = host_problems(configuration.host.interfaces, runtime.hardware.table, link_group)
        if problems:
            _refuse(problems)
            continue
        for problem in await runtime.reconfigure(configuration):
            logger.error("%s", problem)
        logger.info("configuration reloaded")


def _refuse(problems: list[str]) -> None:
    for problem in problems:
        logger.error("%s", problem)
    logger.error("the configuration was not changed")
