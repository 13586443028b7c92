"""The verbs of `carp` and their options.

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .client import DEFAULT_SOCKET, socket_path
from .errors import CommandError

app = typer.Typer(
    name="carp",
    help="Look at, change and check carpd, which shares IP addresses between hosts with CARP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Show and save what runs; make carp.toml of the files of others.", no_args_is_help=True)
app.add_typer(config_app, name="config")

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
