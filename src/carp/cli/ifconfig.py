"""`carp ifconfig`: the words of the BSDs for one carp interface or group; silent when all went well, as there."""

import sys
from collections.abc import Sequence
from pathlib import Path

from carp.config.bsd_words import WordError
from carp.config.change import Change
from carp.config.ifconfig import GroupDemotion, Show, parse

from .client import get, segment, send
from .errors import CommandError
from .interface_text import interface_text

USAGE = """\
usage: carp ifconfig [-a | carpN | GROUP]          show all carp interfaces, one, or those of a group
       carp ifconfig carpN create | destroy
       carp ifconfig carpN WORD...                 change it; what does not exist yet is created
       carp ifconfig -g GROUP                      show the demotion counter of a group
       carp ifconfig -g GROUP carpdemote [N]       raise it by 0..128 (1)
       carp ifconfig -g GROUP -carpdemote [N]      lower it

Words, in any order:
  vhid N  advbase N  advskew N  pass PHRASE  carpdev IF  -carpdev  state init|backup|master  up  down
  balancing MODE  carpnodes VHID:ADVSKEW,...  carppeer ADDRESS,...  -carppeer  lladdr MAC
  group GROUP  -group GROUP
  [inet|inet6] ADDRESS[/LENGTH] [MASK] [alias|-alias|delete]
Nothing is kept over a restart: carp config save writes the file."""


def ifconfig(socket: Path, words: Sequence[str]) -> int:
    """Carry out one line; return the exit status.

    Raises:
        CommandError: a word is wrong, or the daemon refuses; then nothing was changed. Status 1, as the BSDs' ifconfig.
    """
    try:
        wanted = parse(words)
    except WordError as error:
        raise CommandError(str(error)) from None
    if isinstance(wanted, Change):
        answer = send(socket, "PATCH", f"/v1/interfaces/{segment(wanted.interface)}", wanted.to_json())
        for warning in answer.get("warnings", ()):
            print(f"warning: {warning}", file=sys.stderr)
    elif isinstance(wanted, GroupDemotion):
        send(socket, "POST", f"/v1/groups/{segment(wanted.group)}", {"carpdemote": wanted.amount})
    else:
        print(_shown(socket, wanted), end="")
    return 0


def _shown(socket: Path, wanted: Show) -> str:
    if wanted.kind == "demotion":
        return _demotion(socket, wanted.name)
    if wanted.kind == "interface":
        return interface_text(get(socket, f"/v1/interfaces/{segment(wanted.name)}")) + "\n"
    interfaces = get(socket, "/v1/status")["interfaces"]
    if wanted.kind == "group":
        interfaces = [interface for interface in interfaces if wanted.name in interface["groups"]]
        if not interfaces:
            raise CommandError(f"{wanted.name}: no carp interface is in this group")
    return "".join(f"{interface_text(interface)}\n" for interface in interfaces)


def _demotion(socket: Path, name: str) -> str:
    groups = get(socket, "/v1/groups")
    if name not in groups:
        raise CommandError(f"{name}: no such group; there is {', '.join(sorted(groups))}")
    return f"{name}: carp demote count {groups[name]['demote']}\n"
