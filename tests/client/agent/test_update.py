"""Updates over real sockets: what is fetched, what is installed, and what stands when something is wrong."""

from __future__ import annotations

from pathlib import Path

from tests.client.agent.publisher import FIRST, SECOND, Publisher, installed, metered, run


def contents(directory: object) -> dict[str, bytes]:
    return {name: data for name, data in installed(directory).items() if not name.startswith("coldchain-canary")}  # type: ignore[arg-type]


async def test_first_install_then_a_delta_then_a_quick_check(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish(1, FIRST)
    async with publisher.origin() as url, metered(url) as (relay, meter):
        directory = publisher.client(tmp_path / "endpoint", relay)
        done = await run(directory)
        assert (done.action, done.release, done.way, done.check) == ("installed", 1, "full", "full")
        assert contents(directory) == FIRST

        publisher.publish(2, SECOND)
        done = await run(directory)
        assert (done.action, done.release, done.previous, done.way) == ("updated", 2, 1, "delta")
        assert contents(directory) == SECOND
        delta, full = (publisher.files[publisher.target(name)] for name in ("from-1.ccd", "full.ccd"))
        assert len(delta) < len(full) / 5

        meter.up = meter.down = 0
        done = await run(directory)
        assert (done.action, done.check, done.requests) == ("current", "quick", 1)
        assert meter.up <= 150
        assert meter.down <= 180
