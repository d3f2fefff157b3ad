"""Every file on its way altered or cut: never accepted, the old set stands, and the next good poll succeeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from coldchain.errors import ColdchainError
from tests.client.agent.publisher import FIRST, SECOND, Edge, run, serving
from tests.client.agent.world import World, contents, left_over

UPDATE = ["timestamp", "snapshot", "us", "rollout", "evidence", "delta"]
FROM_NOTHING = ["timestamp", "snapshot", "targets", "us", "rollout", "evidence", "full"]
CASES = [("first", name) for name in UPDATE] + [("fresh", name) for name in FROM_NOTHING]


async def sweep(world: World, path: Path, start: str, name: str, flips: int, cuts: int, *, mends: int = 1) -> int:
    """Serves the file altered at ``flips`` places and cut at ``cuts``, and good after each of ``mends``; returns how often."""
    published, good = world.names[name], world.two[world.names[name]]
    before = FIRST if start == "first" else {}
    wrong = b""
    edge = Edge(world.two)

    def lie(request: web.Request, _data: bytes) -> web.StreamResponse | None:
        if request.path.lstrip("/") != published:
            return None
        start = request.http_range.start or 0
        return web.Response(body=wrong, status=200) if not start else None

    edge.lie = lie
    every = [
        *((at, good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :]) for at in _spread(len(good), flips)),
        *((at, good[:at]) for at in _spread(len(good), cuts)),
        (len(good), good + b"x"),
    ]
    async with serving(edge) as url:
        for turn, (at, altered) in enumerate(every):
            wrong = altered
            directory = world.copy(world.first if start == "first" else world.fresh, path / "endpoint")
            edge.lie = lie
            with pytest.raises(ColdchainError) as refused:
                await run(directory, url)
            assert 10 <= refused.value.exit_code < 30, (name, at, refused.value)
            assert refused.value.kept == ("release 1 stays in use" if before else "nothing is installed yet")
            assert contents(directory) == before, (name, at)
            if turn % mends:
                continue
            edge.lie = lambda _request, _data: None
            done = await run(directory, url)
            assert done.release == 2
            assert contents(directory) == SECOND, (name, at)
            assert left_over(directory) == [], (name, at)
    return len(every)


def _spread(length: int, count: int) -> list[int]:
    return sorted({length - 1, *range(0, length, max(1, -(-length // count)))})


@pytest.mark.parametrize(("start", "name"), CASES)
async def test_an_altered_or_cut_file_is_never_accepted(world: World, tmp_path: Path, start: str, name: str) -> None:
    assert await sweep(world, tmp_path, start, name, 14, 5, mends=4) >= 18


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("start", "name"), CASES)
async def test_every_byte_and_every_truncation(world: World, tmp_path: Path, start: str, name: str) -> None:
    length = len(world.two[world.names[name]])
    done = await sweep(world, tmp_path, start, name, min(length, 4000), min(length, 1000))
    print(f"\n{start} {name}: {length} bytes, {done} altered or cut, 0 accepted")
