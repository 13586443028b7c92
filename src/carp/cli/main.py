"""The verbs of `carp` and their options.

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .client import DEFAULT_SOCKET, DaemonError, socket_path

app = typer.Typer(
    name="carp",
    help="Look at and check carpd, which shares IP addresses between hosts with CARP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    context: typer.Context,
    socket: Annotated[
        Path | None, typer.Option(help=f"The daemon's control socket; else CARP_SOCKET, else {DEFAULT_SOCKET}.")
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


def main() -> None:
    """Run `carp` with the arguments of the command line."""
    try:
        app()
    except DaemonError as error:
        print(f"carp: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
