"""A daemon whose running document a test writes: all of carpd but its control API.

The process reads a document as one line of JSON and answers with one line: what it could not do, and each carp interface's
state with the reason why it does not run.
"""

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from carp.config.errors import key_text
from carp.config.load import Source, load_document
from carp.daemon.chronicle import Chronicle
from carp.daemon.fencing import Fencing
from carp.daemon.runtime import Runtime
from carp.linux.journal import Journal
from carp.linux.service_manager import Notifier
from lab.lan import Port

ROOT = Path(__file__).parents[2]
Document = dict[str, dict[str, Any]]


class DocumentHost:
    """A host with such a daemon; a context manager."""

    def __init__(self, port: Port, state: Path) -> None:
        self.namespace = port.namespace
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [ROOT / "src", ROOT]))}
        line = self.namespace.wrap(sys.executable, str(Path(__file__)), str(state))
        self._process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def change(self, document: Document) -> dict[str, Any]:
        """Let the daemon change to another document; return its answer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(document) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def stop(self) -> None:
        """Stop the daemon cleanly."""
        self._process.communicate(timeout=20)

    def kill(self) -> None:
        """Let it end as a crash would."""
        self._process.kill()
        self._process.communicate(timeout=20)


def _load(line: str) -> Any:
    source = Source(key_text, Path("/"), incomplete_ok=True)
    return load_document(json.loads(line), source)


async def _run(state: Path) -> None:
    journal = Journal(state)
    chronicle = Chronicle(6)
    runtime = Runtime(journal, chronicle, Fencing("auto", journal, lambda text: chronicle.say(1, text)), Notifier())
    await runtime.start(_load("{}"))
    while line := await asyncio.to_thread(sys.stdin.readline):
        problems = await runtime.reconfigure(_load(line))
        interfaces = {
            one.name: {"state": one.leader.state.value, "why": one.not_ready(), "demote": one.demote}
            for one in runtime.engine.interfaces
        }
        print(json.dumps({"problems": problems, "interfaces": interfaces}), flush=True)
    await runtime.stop()
    journal.close()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    asyncio.run(_run(Path(sys.argv[1])))
