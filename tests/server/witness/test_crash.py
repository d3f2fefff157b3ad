"""Killed at any point, a witness never cosigns something inconsistent with what it cosigned before."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coldchain.tlog.checkpoint import Checkpoint, open_checkpoint
from coldchain.tlog.note import parse_note
from coldchain_server.witness.cosigner import Cosigner, Reply
from coldchain_server.witness.home import WitnessHome
from tests.client.tlog.logs import LOG, ORIGIN, SIGNED_AT
from tests.faults import crashpoints
from tests.server.witness.asking import LONG, ORIGIN_ID, PASSPHRASE, Client, ask, fork, make_witness, passphrase

PROGRAM = Path(sys.executable).parent / "coldchain-server"


def answer(home: WitnessHome, body: bytes) -> Reply:
    memory = home.memory()
    try:
        return Cosigner(memory, home.key, home.signer(passphrase), lambda: SIGNED_AT).add_checkpoint(body)
    finally:
        memory.close()


@pytest.mark.parametrize("held", [0, 3])
def test_killed_before_any_call_it_is_as_before_or_as_answered(tmp_path: Path, held: int) -> None:
    """The log asks, the witness dies, and then comes the other branch of a fork."""

    def prepared(name: str) -> WitnessHome:
        home = make_witness(tmp_path / name)
        if held:
            assert answer(home, ask(0, held)).status == 200
        return home

    def work(home: WitnessHome) -> Callable[[], None]:
        def asked() -> None:
            assert answer(home, ask(held, 9)).status == 200
            crashpoints.acknowledge()

        return asked

    whole = crashpoints.run(work(prepared("whole")))
    assert whole.finished, whole.raised
    states = set()
    for point in range(1, len(whole.calls) + 1):
        home = prepared(str(point))
        ending = crashpoints.run(work(home), point)
        assert ending.killed
        memory = home.memory()
        head = memory.head(ORIGIN)
        memory.close()
        assert head is not None
        assert (head.size, head.root) in {(held, LONG.root(held)), (9, LONG.root(9))}
        states.add((head.size, ending.acknowledged))
        again = answer(home, ask(held, 12, fork(held, 12)))
        if head.size == 9:
            assert (again.status, again.body) == (409, b"9\n")
            assert answer(home, ask(9, 12, fork(held, 12))).status == 422
            assert answer(home, ask(9, 9)).status == 200, "the log that lost its answer gets it when it asks again"
        else:
            assert not ending.acknowledged
            assert again.status == 200, "nothing was answered, so nothing binds"
    assert states >= {(held, False), (9, False)}


@pytest.mark.parametrize("error", [errno.ENOSPC, pytest.param(errno.EIO, marks=pytest.mark.faults)])
def test_a_disk_that_refuses_costs_the_answer_and_no_more(tmp_path: Path, error: int) -> None:
    home = make_witness(tmp_path / "whole")
    points = len(crashpoints.run(lambda: answer(home, ask(0, 9))).calls)
    for point in range(1, points + 1):
        home = make_witness(tmp_path / str(point))

        def work(home: WitnessHome = home) -> None:
            assert answer(home, ask(0, 9)).status == 200
            crashpoints.acknowledge()

        ending = crashpoints.run(work, point, error=error)
        memory = home.memory()
        head = memory.head(ORIGIN)
        memory.close()
        assert head is not None
        assert head.size == 9 or not ending.acknowledged
        assert answer(home, ask(head.size, 12)).status == 200


@asynccontextmanager
async def process(directory: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, Client]]:
    """The real program; killed at the end if it still lives."""
    program = await asyncio.create_subprocess_exec(
        *(PROGRAM, "witness", str(directory), "--port", "0", "--json"),
        env={**os.environ, "COLDCHAIN_PASSPHRASE": PASSPHRASE},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert program.stdout is not None
        assert program.stderr is not None
        announced = json.loads(await program.stdout.readline())
        assert announced["vkey"] == WitnessHome(directory).key.vkey
        line = json.loads(await program.stderr.readline())
        assert line["message"] == "listening"
        yield program, Client(int(line["url"].rsplit(":", 1)[1]))
    finally:
        if program.returncode is None:
            program.kill()
        await program.communicate()


async def held_by(client: Client, home: WitnessHome) -> Checkpoint | None:
    shown = await client.get(f"/{ORIGIN_ID}/checkpoint")
    return open_checkpoint(parse_note(shown.body), [LOG.key], [home.key]).checkpoint if shown.status == 200 else None


async def rounds(directory: Path, count: int, seed: int) -> None:
    """Grows a log step by step while the witness is killed at times of its own; then tries every fork."""
    rng = random.Random(seed)
    home = make_witness(directory)
    size = 0  # the largest that was answered for
    for _ in range(count):
        async with process(directory) as (program, client):
            held = await held_by(client, home)
            assert (held.size if held else 0) >= size
            assert held is None or held == LONG.checkpoint(held.size)
            size = held.size if held else 0
            first = min(size + 1, LONG.size)
            assert (await client.post(ask(size, first))).status == 200
            size = first
            asyncio.get_running_loop().call_later(rng.uniform(0, 0.1), program.kill)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    new = min(size + 1, LONG.size)
                    reply = await client.post(ask(size, new))
                    assert reply.status == 200, reply
                    size = new
            assert await program.wait() == -signal.SIGKILL
    async with process(directory) as (program, client):
        held = await held_by(client, home)
        assert held is not None
        assert held.size >= size
        for at in range(0, held.size, 3):
            assert (await client.post(ask(held.size, LONG.size, fork(at, LONG.size)))).status == 422
        program.terminate()
        assert await program.wait() == 0


async def test_the_program_is_killed_while_it_answers(tmp_path: Path) -> None:
    await rounds(tmp_path / "witness", 2, 1)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(5))
async def test_the_program_is_killed_often(tmp_path: Path, seed: int) -> None:
    await rounds(tmp_path / "witness", 8, seed)
