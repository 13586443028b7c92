"""The verbs of `carp` and their options.

Exit status: 0 done, 1 failed, 2 wrong usage or configuration; `carp sync status` has more.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .client import DEFAULT_SOCKET, socket_path
from .errors import WRONG_CONFIGURATION, CommandError

app = typer.Typer(
    name="carp",
    help="Look at, change and check carpd, which shares IP addresses between hosts with CARP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Show and save what runs; make carp.toml of the files of others.", no_args_is_help=True)
app.add_typer(config_app, name="config")
demote_app = typer.Typer(help="Give and take back reasons why this host should not be MASTER.", no_args_is_help=True)
app.add_typer(demote_app, name="demote")
sync_app = typer.Typer(help="Keep the states of connections alike on two firewalls, by conntrackd.", no_args_is_help=True)
app.add_typer(sync_app, name="sync")

# The verbs of the BSDs have a grammar of their own: -carppeer is no option, and nothing stands before its words.
_RAW_WORDS: dict[str, Any] = {
    "add_help_option": False,
    "context_settings": {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
}
_HELP = ("--help", "-h")


@app.callback()
def _options(
    context: typer.Context,
    socket: Annotated[
        Path | None,
        # Whoever may not use it is told so when it is used.
        typer.Option(readable=False, help=f"The daemon's control socket; else CARP_SOCKET, else {DEFAULT_SOCKET}."),
    ] = None,
) -> None:
    context.obj = socket_path(socket)


@app.command()
def status(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print everything that is known, as JSON.")] = False,
) -> None:
    """Show each carp interface: its state, since when, why, and who is MASTER."""
    from .status import status as show

    raise typer.Exit(show(context.obj, as_json=json))


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="One carp.toml for each host.", show_default=False)],
) -> None:
    """Check configurations; of two or more, also what would keep their hosts from agreeing. Needs no root."""
    from .check import check as run

    raise typer.Exit(run(files))


@app.command(**_RAW_WORDS)
def ifconfig(context: typer.Context) -> None:
    """Show and change carp interfaces in the words of the BSDs."""
    from .ifconfig import USAGE
    from .ifconfig import ifconfig as run

    _run_raw(context, USAGE, run)


@app.command(**_RAW_WORDS)
def sysctl(context: typer.Context) -> None:
    """Show and change net.inet.carp.*, the settings of the whole host."""
    from .sysctl import USAGE
    from .sysctl import sysctl as run

    _run_raw(context, USAGE, run)


@app.command(**_RAW_WORDS)
def netstat(context: typer.Context) -> None:
    """Show the counters: netstat -s -p carp."""
    from .netstat import USAGE
    from .netstat import netstat as run

    _run_raw(context, USAGE, run)


@app.command()
def reload(context: typer.Context) -> None:
    """Let carpd read its configuration again; print what it changed. Refused as a whole if anything in it is wrong."""
    from .config import reload as run

    raise typer.Exit(run(context.obj))


@app.command()
def events(context: typer.Context) -> None:
    """Print what happens as it happens: one JSON object a line, until interrupted."""
    from .client import stream

    for line in stream(context.obj, "/v1/events"):
        print(line, flush=True)


@demote_app.command("add")
def demote_add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the reason.", show_default=False)],
    amount: Annotated[int, typer.Argument(metavar="AMOUNT", help="1..255, added to what else there is.", show_default=False)],
    group: Annotated[list[str] | None, typer.Option(help="Instead of carp: a group, a carp interface, or all.")] = None,
    span: Annotated[str | None, typer.Option("--for", metavar="TIME", help="End by itself after 90s, 15m, 1h, 2d.")] = None,
) -> None:
    """Demote this host: peers that are less demoted take over at once."""
    from .demote import add

    raise typer.Exit(add(context.obj, name, amount, group or (), span))


@demote_app.command("remove")
def demote_remove(
    context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="What it was called.", show_default=False)]
) -> None:
    """End a reason."""
    from .demote import remove

    raise typer.Exit(remove(context.obj, name))


@demote_app.command("list")
def demote_list(
    context: typer.Context, json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False
) -> None:
    """Show every reason that holds, who set it, and since when."""
    from .demote import show

    raise typer.Exit(show(context.obj, as_json=json))


@app.command()
def switch(
    context: typer.Context,
    interface: Annotated[str, typer.Argument(metavar="CARP", help="A carp interface that is MASTER here.", show_default=False)],
    to_backup: Annotated[bool, typer.Option("--to-backup", help="Being BACKUP already is success.")] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long a peer may take.", min=0.1, max=300)] = 5,
) -> None:
    """Hand a carp interface over to a peer now; without one that takes it, nothing changes."""
    from .handover import switch as run

    raise typer.Exit(run(context.obj, interface, to_backup=to_backup, timeout_s=timeout))


@app.command()
def maintenance(
    context: typer.Context,
    word: Annotated[str, typer.Argument(metavar="[on|off]", help="Nothing: show it.")] = "",
    reason: Annotated[str, typer.Option(help="Is shown by carp status.")] = "",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long peers may take.", min=0.1, max=300)] = 5,
) -> None:
    """Hand everything over and stay out of the way, also after a restart and a reboot, until it is off."""
    from .handover import maintain, show_maintenance

    if word not in ("", "on", "off"):
        raise CommandError(f"{word}: on or off", exit_status=WRONG_CONFIGURATION)
    if not word:
        raise typer.Exit(show_maintenance(context.obj))
    raise typer.Exit(maintain(context.obj, on=word == "on", reason=reason, timeout_s=timeout))


@app.command()
def targets(context: typer.Context) -> None:
    """Let systemd's targets carp-master@CARP and carp-backup@CARP follow each carp interface, until interrupted."""
    from .targets import targets as run

    run(context.obj)


@sync_app.command("status")
def sync_status(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print everything that is known, as JSON.")] = False,
) -> None:
    r"""Show whether both hosts have the same states. Exit status: 0 they have, 3 not, 4 without \[sync]; 1 without carpd."""
    from .sync import status as show

    raise typer.Exit(show(context.obj, as_json=json))


@sync_app.command("config")
def sync_config(
    file: Annotated[Path, typer.Option(metavar="FILE", help="The host's carp.toml.")] = Path("/etc/carp/carp.toml"),
) -> None:
    r"""Print a conntrackd.conf that fits \[sync] of carp.toml. Needs no daemon."""
    from .sync import config as run

    raise typer.Exit(run(file))


@config_app.command("show")
def config_show(context: typer.Context) -> None:
    """Print the running configuration as carp.toml, without its keys."""
    from .config import show

    raise typer.Exit(show(context.obj))


@config_app.command("save")
def config_save(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to; else where it was read from.", show_default=False)
    ] = None,
) -> None:
    """Let carpd write its running configuration, keys included, to a file of mode 0600."""
    from .config import save

    raise typer.Exit(save(context.obj, file))


@config_app.command("diff")
def config_diff(context: typer.Context) -> None:
    """Print what carp reload would change."""
    from .config import diff

    raise typer.Exit(diff(context.obj))


@config_app.command("import")
def config_import(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE... | -- ucarp WORD...",
            help="hostname.carpN, rc.conf and sysctl.conf files, or a command line of ucarp.",
            show_default=False,
        ),
    ],
    carpdev: Annotated[str, typer.Option(metavar="IF", help="The parent of carp interfaces that name none.")] = "",
) -> None:
    """Print files of the BSDs, or a command line of ucarp, as one carp.toml. Needs no daemon and no root."""
    from .config_import import config_import as run

    raise typer.Exit(run(words, carpdev))


def _run_raw(context: typer.Context, usage: str, run: Callable[[Path, Sequence[str]], int]) -> None:
    if context.args[:1] and context.args[0] in _HELP:
        print(usage)
        raise typer.Exit
    raise typer.Exit(run(context.obj, context.args))


def main() -> None:
    """Run `carp` with the arguments of the command line."""
    try:
        app()
    except CommandError as error:
        for sentence in error.sentences:
            print(f"carp: {sentence}", file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        sys.exit(1)
