"""Long answers, made a little at a time."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from daemon_kit import FakeRuntime, configured, play

from carp.daemon import pacing, status
from carp.daemon.pacing import Shared, Turns


async def made(turns: Turns, pieces: Iterator[bytes]) -> bytes:
    """Make a whole answer."""
    return b"".join([chunk async for chunk in turns.pace(pieces)])


def test_everything_is_made_in_order() -> None:
    """However many pieces there are, or none."""

    async def scenario() -> None:
        turns = Turns()
        for count in (0, 1, 5000):
            wanted = [str(number).encode() * 20 for number in range(count)]
            assert await made(turns, iter(wanted)) == b"".join(wanted)

    play(scenario)


def test_the_loop_runs_between_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each turn of one answer, whatever is ready on the loop runs, and the other answers have theirs."""
    monkeypatch.setattr(pacing, "_TURN_S", 0)
    order: list[str] = []

    def pieces(name: str) -> Iterator[bytes]:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            order.append(name)
            loop.call_soon(order.append, "loop")
            yield b"x"

    async def scenario() -> None:
        turns = Turns()
        await asyncio.gather(made(turns, pieces("a")), made(turns, pieces("b")))
        assert order[1::2] == ["loop"] * 6
        assert "".join(order[::2]) == "aababb"  # who had a turn waits behind whoever waits already

    play(scenario)


def test_a_turn_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with the piece in which its time is over."""
    clock = iter(range(1000))
    monkeypatch.setattr(pacing.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(pacing, "_TURN_S", 3)
    pieces = iter([b"x"] * 10)
    gathered = bytearray()
    assert pacing._make(pieces, gathered) is True
    assert len(gathered) == 3


def test_who_leaves_in_the_middle_keeps_no_turn() -> None:
    """The next one has it."""

    async def scenario() -> None:
        turns = Turns()
        begun = turns.pace(iter([b"x" * 100_000] * 3))
        await anext(begun)
        await begun.aclose()
        waiting = asyncio.create_task(made(turns, iter([b"y"] * 3)))
        await asyncio.sleep(0)
        waiting.cancel()
        async with asyncio.timeout(5):
            assert await made(turns, iter([b"z"])) == b"z"

    play(scenario)


def test_a_fault_keeps_no_turn() -> None:
    """It is the fault of one answer."""

    def fail() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    async def scenario() -> None:
        turns = Turns()
        with pytest.raises(ZeroDivisionError):
            await made(turns, fail())
        async with asyncio.timeout(5):
            assert await made(turns, iter([b"z"])) == b"z"

    play(scenario)


class Source:
    """Makes answers, and counts them; each says which one it is."""

    def __init__(self) -> None:
        self.begun = 0
        self.finished = 0

    def make(self) -> Iterator[bytes]:
        """Make one that takes several turns."""
        self.begun += 1
        number = str(self.begun).encode()
        for _ in range(10):
            yield number * 40_000
        self.finished += 1


async def whole(shared: Shared) -> bytes:
    """Get a whole answer; return what it is made of."""
    answer = b"".join([chunk async for chunk in shared.ask()])
    assert len(answer) == 400_000
    return bytes(set(answer))


def test_who_asks_before_it_is_begun_shares_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks later gets another one: nothing in an answer is older than its question."""
    monkeypatch.setattr(pacing, "_TURN_S", 0)

    async def scenario() -> None:
        source = Source()
        shared = Shared(Turns(), source.make)
        first = [asyncio.create_task(whole(shared)) for _ in range(3)]
        while not source.begun:
            await asyncio.sleep(0)
        later = [asyncio.create_task(whole(shared)) for _ in range(3)]
        assert await asyncio.gather(*first) == [b"1"] * 3
        assert await asyncio.gather(*later) == [b"2"] * 3
        assert await whole(shared) == b"3"
        assert (source.begun, source.finished) == (3, 3)

    play(scenario)


def test_an_answer_that_nobody_waits_for_is_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one reader is left it is; nor is one begun of which nobody wants even the beginning."""
    monkeypatch.setattr(pacing, "_TURN_S", 0)

    async def scenario() -> None:
        source = Source()
        shared = Shared(Turns(), source.make)
        readers = [shared.ask() for _ in range(2)]
        await asyncio.gather(*map(anext, readers))
        await readers[0].aclose()
        assert len(b"".join([chunk async for chunk in readers[1]])) > 300_000
        assert (source.begun, source.finished) == (1, 1)
        leaver = shared.ask()
        await anext(leaver)
        waiting = asyncio.create_task(whole(shared))
        await asyncio.sleep(0)
        waiting.cancel()
        await leaver.aclose()
        await shared.ask().aclose()
        assert await whole(shared) == b"3"
        assert (source.begun, source.finished) == (3, 2)

    play(scenario)


def test_a_fault_is_told_to_everyone_who_shares() -> None:
    """And the next answer is made again."""

    def fail() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    async def scenario() -> None:
        shared = Shared(Turns(), fail)
        for _ in range(2):
            asked = [asyncio.create_task(whole(shared)) for _ in range(2)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(one) for one in found] == [ZeroDivisionError] * 2

    play(scenario)


def table(number: int, **more: Any) -> dict[str, Any]:
    """Write a carp interface."""
    return {"carpdev": "eth0", "vhid": number + 1, "addresses": [f"192.0.2.{100 + number}/24"], **more}


async def running(document: dict[str, Any]) -> Any:
    """Make a runtime that runs a document."""
    runtime = FakeRuntime()
    await runtime.reconfigure(configured(document))
    return runtime


def still(document: Any) -> Any:
    """Take out of a status what changes with time."""
    if isinstance(document, dict):
        return {key: still(value) for key, value in document.items() if key != "since" and not key.endswith("_s")}
    return [still(one) for one in document] if isinstance(document, list) else document


def test_the_pieces_of_a_status_are_the_status() -> None:
    """With none, with many, and with incomplete interfaces."""

    async def scenario() -> None:
        for document in (
            {},
            {f"carp{number}": table(number) for number in range(100)} | {"carp200": {}, "carp50": {"vhid": 9}},
        ):
            runtime = await running(document)
            pieces = list(status.pieces(runtime))
            assert still(json.loads(b"".join(pieces))) == still(json.loads(json.dumps(status.document(runtime))))
            assert len(pieces) > len(document)

    play(scenario)


def test_what_goes_away_meanwhile_is_left_out() -> None:
    """And what is left is still JSON."""

    async def scenario() -> None:
        runtime = await running({f"carp{number}": table(number) for number in range(4)})
        pieces = status.pieces(runtime)
        begun = [next(pieces) for _ in range(5)]
        await runtime.reconfigure(configured({"carp0": table(0), "carp3": table(3)}))
        shown = json.loads(b"".join([*begun, *pieces]))
        assert [one["name"] for one in shown["interfaces"]][-1] == "carp3"
        assert "carp2" not in [one["name"] for one in shown["interfaces"]]

    play(scenario)


def test_the_states_are_short() -> None:
    """Of each virtual host its number and state, of each interface its name and demotion."""

    async def scenario() -> None:
        runtime = await running({"carp0": table(0), "carp1": {}})
        shown = json.loads(b"".join(status.states(runtime)))
        assert shown["interfaces"] == [
            {"name": "carp0", "demote": 0, "nodes": [{"vhid": 1, "state": "BACKUP"}]},
            {"name": "carp1", "demote": 0, "nodes": [{"vhid": None, "state": "INIT"}]},
        ]

    play(scenario)
