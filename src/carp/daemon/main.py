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
from contextlib import closing
from functools import partial
from importlib.metadata import version
from pathlib import Path

from ..config.edit import HostView
from ..config.errors import ConfigError
from ..config.load import DEFAULT_PATH, Configuration
from ..linux import carplink, sysctl
from ..linux.journal import Journal, LockedError
from ..linux.links import LinkTable
from ..linux.netlink import Netlink
from ..linux.privilege import missing_capabilities
from ..linux.realtime import become_realtime
from ..linux.service_manager import Notifier
from . import origin
from .administration import Administration
from .api import Api
from .chronicle import Chronicle, logger
from .control import Control, SocketInUseError
from .event_stream import Events
from .fencing import Fencing, remove_left_filters
from .fitness import StartError, Stock, host_problems, host_warnings
from .handover import HandOver
from .pacing import Turns
from .refusals import ChangeRefusedError
from .runtime import Runtime

DEFAULT_SOCKET = Path("/run/carp/carpd.sock")
_DEFAULT_STATE_DIRECTORY = Path("/var/lib/carp")
_SYSLOG = "/dev/log"
_SWITCH_INTERVAL_S = 0.0005
_NO_LINK_GROUP = -1
DONE, FAILED, WRONG = 0, 1, 2


def main() -> int:
    """Run carpd with the arguments of the command line."""
    parser = _parser()
    arguments = parser.parse_intermixed_args()
    if conflict := origin.conflict(arguments):
        parser.error(conflict)
    try:
        configuration = origin.load(arguments, _host_view)
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
        epilog=f"Without an option that says what to read it reads {DEFAULT_PATH}, or else the BSDs' boot files in /etc.",
    )
    parser.add_argument("-n", dest="check", action="store_true", help="check the configuration and exit")
    parser.add_argument("--socket", type=Path, metavar="PATH", help=f"the control socket ({DEFAULT_SOCKET})")
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help=f"the state directory ({_DEFAULT_STATE_DIRECTORY})")
    parser.add_argument("--version", action="version", version=f"carpd {version('carpd')}")
    parser.add_argument("--syslog", action="store_true", help="log to syslog instead of stderr")
    origin.add_arguments(parser)
    return parser


def _host_view() -> HostView:
    with closing(Netlink()) as netlink:
        table = LinkTable()
        table.load(netlink)
    # No link is taken for one of this daemon: whatever is called carpN is no parent anyhow.
    return Stock.take(table, _NO_LINK_GROUP).view()


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
    try:
        Control(socket_path).check()
    except SocketInUseError as error:
        # Whatever is in the way on this host is most likely that daemon's: no advice about it.
        logger.error("%s", error)
        return WRONG
    netlink = Netlink()
    table = LinkTable()
    table.load(netlink)
    stock = Stock.take(table, journal.link_group)
    problems = host_problems(configuration, stock)
    if problems:
        for problem in problems:
            logger.error("%s", problem)
        return WRONG
    for warning in (*configuration.warnings, *host_warnings(configuration, stock), *sysctl.host_warnings()):
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
    return asyncio.run(_serve(arguments, configuration, journal, fencing, socket_path))


def _prepare_process(*, realtime: bool) -> None:
    # The worker thread may hold the interpreter for this long before the loop gets it back.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # Each parent has some sockets, and so has each client of the control socket.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for refusal in become_realtime() if realtime else ():
        logger.warning("warning: %s", refusal)


async def _serve(
    arguments: argparse.Namespace, configuration: Configuration, journal: Journal, fencing: Fencing, socket_path: Path
) -> int:
    stopping = asyncio.Event()
    reloads: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reloads.put_nowait, None)
    turns = Turns()
    events = Events(turns)
    notifier = Notifier.from_environment()
    runtime = Runtime(journal, Chronicle(configuration.log, events.publish), fencing, notifier)
    administration = Administration(runtime, partial(origin.load, arguments, _host_view), journal.link_group, events.publish)
    handover = HandOver(runtime, journal.directory)
    control = Control(socket_path, Api(runtime, administration, handover, events, turns).routes())
    reloader = None
    result = DONE
    try:
        handover.begin()
        await runtime.start(configuration)
        await control.start()
        count = len(configuration.host.interfaces)
        started = f"{count} carp interface(s) of {origin.describe(arguments, configuration)}"
        logger.info("started: %s", started)
        notifier.ready(started)
        reloader = asyncio.create_task(_reload_when_told(reloads, administration, notifier))
        await stopping.wait()
    except StartError as error:
        for problem in error.problems:
            logger.error("%s", problem)
        result = FAILED
    except OSError as error:
        logger.error("cannot start: %s", error)
        result = FAILED
    finally:
        notifier.stopping()
        administration.close()
        if reloader is not None:
            reloader.cancel()
        await runtime.stop()
        await control.stop()
        notifier.close()
        logger.info("stopped")
    return result


async def _reload_when_told(reloads: asyncio.Queue[None], administration: Administration, notifier: Notifier) -> None:
    while True:
        await reloads.get()
        notifier.reloading()
        try:
            await administration.reload()
        except ChangeRefusedError:
            pass  # the log has the reasons
        except Exception:
            logger.exception("the reload failed")
        finally:
            notifier.ready("reloaded")
