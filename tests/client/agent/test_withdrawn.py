"""A withdrawal reaches an endpoint that runs the withdrawn release with the next poll, whatever its bucket; others wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldchain.agent.update import Settings, update
from coldchain.errors import HeldError
from coldchain.install.directory import ClientDirectory
from coldchain.install.versions import linked
from tests.client.agent.publisher import FIRST, SECOND, Publisher, installed, metered, run


def endpoint(publisher: Publisher, path: Path, *numbers: int) -> ClientDirectory:
    return publisher.client(path / f"on-{'-'.join(map(str, numbers))}", "http://placeholder.invalid")


@pytest.mark.parametrize("share", [0, 1, 99])
async def test_a_polling_endpoint_leaves_what_was_withdrawn_at_once(tmp_path: Path, share: int) -> None:
    publisher = Publisher(tmp_path / "publisher", regions=("us",), packs=True)
    publisher.publish(1, FIRST)
    bad, good, slow = (endpoint(publisher, tmp_path, number) for number in (2, 1, 3))
    mirror = str(publisher.write(tmp_path / "mirror"))
    for one in (bad, good, slow):
        await run(one, mirror)
    publisher.publish(2, SECOND)
    publisher.write(tmp_path / "mirror")
    for one in (bad, slow):
        await run(one, mirror)

    publisher.publish(3, FIRST, share=share, withdrawn=[2])
    publisher.write(tmp_path / "mirror")
    with pytest.raises(HeldError, match=f"release 3 goes to {share} % of endpoints, this one comes later"):
        await run(good, mirror, draw=lambda _: 9999)
    async with publisher.origin() as url, metered(url) as (way, meter):
        done = await update(bad, Settings(urls=[way], draw=lambda _: 9999))
    assert (done.action, done.release, done.way) == ("updated", 3, "delta")
    assert {name: data for name, data in installed(bad).items() if "canary" not in name} == FIRST
    assert done.requests == 2, "the poll and the pack"
    assert meter.down < 8_000, f"{done.requests} requests, {meter.up} bytes up, {meter.down} down"

    publisher.repository.set_rollout(3, share, held=True, withdrawn=[2])
    publisher.repository.publish("rollout")
    publisher.write(tmp_path / "mirror")
    with pytest.raises(HeldError, match="held"):
        await run(slow, mirror)
    version = linked(slow, slow.current)
    assert version is not None
    assert version.release == 2
