"""`python -m carp.attendant --socket FD --user NAME [--icmp FD] [--icmp6 FD]`: started by carpd, and of no use alone.

With `--activated` a service manager has started it for a connection to the attendant's socket, as an ordinary user that may
open the sockets for pings.
"""

import argparse
import logging
import os
import sys

from .ping import icmp_sockets
from .service import serve


def main() -> None:
    """Serve until the daemon is gone."""
    parser = argparse.ArgumentParser("carp.attendant", allow_abbrev=False)
    parser.add_argument("--socket", type=int, required=True, metavar="FD", help="a SOCK_SEQPACKET socket to the daemon")
    parser.add_argument("--icmp", type=int, metavar="FD", help="a raw ICMP socket, for pings over IPv4")
    parser.add_argument("--icmp6", type=int, metavar="FD", help="a raw ICMPv6 socket, for pings over IPv6")
    parser.add_argument("--user", default="", metavar="NAME", help="become this user, whom hooks and checks run as")
    parser.add_argument("--activated", action="store_true", help="started by a service manager, not by carpd")
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, format="carpd: attendant: %(message)s", level=logging.INFO)
    given = {4: arguments.icmp, 6: arguments.icmp6}
    pings = {version: descriptor for version, descriptor in given.items() if descriptor is not None}
    if arguments.activated:
        pings = {version: one.detach() for version, one in icmp_sockets()}
    try:
        serve(arguments.socket, pings, arguments.user, activated=arguments.activated)
    except (KeyError, OSError) as error:
        sys.exit(f"carpd: attendant: cannot run as {arguments.user}: {error}")
    # A thread that hangs in a dead file system would hold up the usual end.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
