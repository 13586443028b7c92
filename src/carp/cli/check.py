"""`carp check FILE...`: every error of each file, and what would keep the hosts of several files from agreeing."""

import sys
from pathlib import Path

from carp.config.compare import compare
from carp.config.errors import ConfigError
from carp.config.load import Configuration, load_file

DONE = 0
WRONG_CONFIGURATION = 2


def check(files: list[Path]) -> int:
    """Check each file, then all good ones against each other; return the exit status, 2 with errors and else 0.

    The files may belong to other hosts: interfaces and addresses of this one are not looked at. But what the files name is: key
    files, credentials, programs, and the user that these run as. What is fine and warnings go to standard output, errors to
    standard error.
    """
    good: list[tuple[str, Configuration]] = []
    wrong = False
    for path in files:
        try:
            configuration = load_file(path)
        except ConfigError as error:
            wrong = True
            print(error, file=sys.stderr)
            continue
        good.append((str(path), configuration))
        _tell(path, configuration)
    if len(good) > 1:
        wrong = not _agree(good) or wrong
    return WRONG_CONFIGURATION if wrong else DONE


def _tell(path: Path, configuration: Configuration) -> None:
    # Flushed, because both streams often end in one file and the lines must keep their order there.
    count = len(configuration.host.interfaces)
    print(f"{path}: ok ({count} interface{'' if count == 1 else 's'})", flush=True)
    for warning in configuration.warnings:
        print(f"warning: {warning}", flush=True)


def _agree(configurations: list[tuple[str, Configuration]]) -> bool:
    """Print what the comparison found; tell whether the hosts would agree."""
    findings = compare(configurations)
    for error in findings.errors:
        print(error, file=sys.stderr)
    for warning in findings.warnings:
        print(f"warning: {warning}", flush=True)
    if not findings.errors:
        print(f"{len(configurations)} files: the hosts agree", flush=True)
    return not findings.errors
