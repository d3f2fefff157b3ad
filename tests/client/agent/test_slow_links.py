"""Slow, metered and throttled: drips are given up, caps hold, resumption goes on, and who asks to be left alone is."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from coldchain.agent.allowance import Allowance
from coldchain.agent.answer_fields import poll_seconds
from coldchain.agent.network import NetworkSettings
from coldchain.agent.told import Told
from coldchain.agent.transport import Traffic, open_sources
from coldchain.errors import AllowanceError, ColdchainError, ThrottledError, TransportError
from coldchain.install.directory import ClientDirectory
from coldchain.install.part import Part
from coldchain.limits import LIMITS
from tests.client.agent.publisher import FIRST, SECOND, Edge, Publisher, run, serving
from tests.client.agent.raw_server import Asked, RawServer, Writer, answer, raw_server

BODY = bytes(range(256)) * 256
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def part(tmp_path: Path) -> Part:
    directory = ClientDirectory(tmp_path / "endpoint")
    directory.make()
    return Part(directory, len(BODY), SHA256)


def ignore(_there: int, _length: int) -> None:
    return


# -- speed -----------------------------------------------------------------------------------------------------------


async def test_a_drip_is_given_up_however_large_the_file_and_a_slow_link_is_not(part: Part) -> None:
    """The deadline moves with the bytes: both servers are slower than the deadline of a whole file would allow for."""
    limits = replace(LIMITS, download_floor_seconds=0.5)

    def slowly(step: int, most: int) -> Callable[[RawServer, Asked, Writer], Awaitable[None]]:
        """``step`` bytes at a time, and after ``most`` bytes all the rest."""

        async def script(server: RawServer, _asked: Asked, writer: Writer) -> None:
            server.write(writer, answer(b"", length=len(BODY)))
            start = 0
            while start < len(BODY):
                end = start + step if start < most else len(BODY)
                server.write(writer, BODY[start:end])
                start = end
                await writer.drain()
                await asyncio.sleep(0.05)

        return script

    for script, least, good in (
        (slowly(200, len(BODY)), 20_000, False),
        (slowly(4096, len(BODY)), 20_000, True),
        (slowly(200, 4000), 100, True),  # slow for longer than the floor, and waited for, as the customer wants it
    ):
        part.remove()
        network = NetworkSettings(minimum_bytes_per_second=least)
        async with raw_server(script) as server, open_sources([server.url], Traffic(), limits, network) as (source,):
            if good:
                await source.download("targets/x", part, ignore)
                continue
            with pytest.raises(TransportError, match="no whole answer within"):
                await source.download("targets/x", part, ignore)
            assert 0 < part.there() < 6000  # at 20,000 a second the whole file would have had 3.8 seconds


async def test_not_faster_than_the_customer_allows(part: Part) -> None:
    edge = Edge({"targets/x": BODY})
    network = NetworkSettings(minimum_bytes_per_second=1000, most_bytes_per_second=200_000)
    async with serving(edge) as url, open_sources([url], Traffic(), LIMITS, network) as (source,):
        before = time.monotonic()
        await source.download("targets/x", part, ignore)
        assert time.monotonic() - before >= len(BODY) / 200_000 * 0.99  # a least time is no guess


# -- caps ------------------------------------------------------------------------------------------------------------


async def test_the_days_bytes_end_in_the_middle_of_a_file_and_it_goes_on_from_there(part: Part) -> None:
    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        start = int(asked.fields.get("range", "bytes=0-")[6:-1])
        field = f"Content-Range: bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        server.write(
            writer,
            answer(b"", "206 Partial" if start else "200 OK", *([field] if start else []), length=len(BODY) - start),
        )
        for at in range(start, len(BODY), 1000):
            server.write(writer, BODY[at : at + 1000])
            await writer.drain()
            await asyncio.sleep(0.001)

    asked: list[str | None] = []
    for day in range(3):
        before = part.there()
        allowance = Allowance(per_day=32_000)
        async with (
            raw_server(script) as server,
            open_sources([server.url], Traffic(), allowance=allowance) as (source,),
        ):
            if day < 2:
                for _ in range(2):  # the second time nothing is asked for
                    with pytest.raises(AllowanceError, match="most_bytes_per_day"):
                        await source.download("targets/x", part, ignore)
                assert part.there() > before + 25_000
            else:
                await source.download("targets/x", part, ignore)
        asked += [one.fields.get("range") for one in server.asked]
    assert asked[0] is None
    assert len(asked) == 3
    assert None not in asked[1:]


async def test_an_update_that_is_too_large_is_not_begun(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "publisher", regions=("us",))
    publisher.publish(1, FIRST)
    directory = publisher.client(tmp_path / "endpoint", "http://placeholder.invalid")
    policy = directory.path / "policy.toml"
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        policy.write_text("[network]\nmost_bytes_per_update = 9_000\n")
        with pytest.raises(AllowanceError, match="most_bytes_per_update") as refused:
            await run(directory, url)
        assert refused.value.exit_code == 23
        assert refused.value.kept == "nothing is installed yet"
        assert not [path for path in edge.paths if path.endswith("full.ccd")]
        policy.write_text("[network]\nmost_bytes_per_update = 90_000\n")
        assert (await run(directory, url)).action == "installed"


async def test_the_days_cap_of_an_endpoint_counts_every_run_and_ends_with_the_day(tmp_path: Path) -> None:
    evening = datetime.now(UTC).replace(hour=20, minute=0, microsecond=0)
    publisher = Publisher(tmp_path / "publisher", regions=("us",), now=evening)
    publisher.publish(1, FIRST)
    directory = publisher.client(tmp_path / "endpoint", "http://placeholder.invalid")
    usage = directory.path / "usage.json"
    network = NetworkSettings(most_bytes_per_day=60_000)
    now = evening + timedelta(minutes=1)
    async with serving(Edge(publisher.files)) as url:
        done = await run(directory, url, network=network, now=lambda: now)
        assert f'"bytes":{done.bytes_down},' in usage.read_text()
        publisher.publish(2, SECOND)
        more = await run(directory, url, network=network, now=lambda: now)
        assert f'"bytes":{done.bytes_down + more.bytes_down},' in usage.read_text()

        async def repairs() -> None:
            for _ in range(9):
                await run(directory, url, network=network, now=lambda: now, repair=True)

        with pytest.raises(AllowanceError, match="most_bytes_per_day") as refused:
            await repairs()
        assert refused.value.kept == "release 2 stays in use"
        count = int(usage.read_text().partition('"bytes":')[2].partition(",")[0])
        assert count <= 60_000 + 2 * max(map(len, publisher.files.values()))
        later = now + timedelta(hours=5)
        assert (await run(directory, url, network=network, now=lambda: later, repair=True)).action == "repaired"


# -- too busy --------------------------------------------------------------------------------------------------------


async def test_who_asks_to_be_left_alone_is_not_asked(part: Part) -> None:
    fields = {"Retry-After: 120": 120.0, "X: y": 60.0, "Retry-After: 0": 0.0, "Retry-After: soon": 60.0}
    for status, (field, seconds) in itertools.product((429, 503), fields.items()):
        clock = [0.0]
        told = Told(lambda clock=clock: clock[0])  # type: ignore[misc]

        async def script(
            server: RawServer, _asked: Asked, writer: Writer, head: tuple[int, str] = (status, field)
        ) -> None:
            server.write(writer, answer(b"", f"{head[0]} Busy", head[1]))

        async with raw_server(script) as server:
            count = 0
            for at, asked in (
                (0.0, True),
                (0.0, not seconds),
                (max(seconds - 1, 0.0), not seconds),
                (seconds + 0.001, True),
            ):
                clock[0] = at
                # a new session each time, as each poll has one; only what was told stays
                async with open_sources([server.url], Traffic(), told=told) as (source,):
                    for number in range(2):
                        with pytest.raises(ThrottledError) as refused:
                            await (source.download("x", part, ignore) if number else source.get("x", 100))
                        count += asked if not number else not seconds
                        assert refused.value.retry_after is None or refused.value.retry_after <= seconds + 1e-6
                        assert len(server.asked) == count


async def test_a_date_is_obeyed_too_whatever_the_clock_here_says() -> None:
    form = "%a, %d %b %Y %H:%M:%S GMT"
    here = datetime.now(UTC)
    for there, exact in ((None, False), (here - timedelta(days=4000), True), (here + timedelta(days=4000), True)):
        told = Told(lambda: 0.0)
        date = [f"Date: {there:{form}}"] if there else ["Date: tomorrow"]
        when = (there or here) + timedelta(seconds=300)

        async def script(
            server: RawServer,
            _asked: Asked,
            writer: Writer,
            fields: tuple[str, ...] = (*date, f"Retry-After: {when:{form}}"),
        ) -> None:
            server.write(writer, answer(b"", "503 Busy", *fields))

        async with raw_server(script) as server:
            async with open_sources([server.url], Traffic(), told=told) as (source,):
                with pytest.raises(ThrottledError):
                    await source.get("x", 100)
            assert told.wait(server.url) == 300 if exact else 200 < told.wait(server.url) <= 300


async def test_in_one_update_a_busy_server_is_asked_once_and_the_other_does_the_work(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "publisher", regions=("us",))
    publisher.publish(1, FIRST)
    directory = publisher.client(tmp_path / "endpoint", "http://placeholder.invalid")
    edge = Edge(publisher.files)

    async def busy(server: RawServer, _asked: Asked, writer: Writer) -> None:
        server.write(writer, answer(b"", "503 Busy", "Retry-After: 120"))

    told = Told()
    async with serving(edge) as good, raw_server(busy) as bad:
        # the good one fails in the middle, so the busy one would have its turn again
        fails = {"targets"}
        edge.lie = lambda request, _data: b"" if request.raw_path.split("/")[1] in fails else None
        with pytest.raises(ColdchainError):
            await run(directory, bad.url, good, told=told)
        assert len(bad.asked) == 1
        fails.clear()
        assert (await run(directory, bad.url, good, told=told)).action == "installed"
        assert len(bad.asked) == 1


# -- how often to poll -----------------------------------------------------------------------------------------------


def test_what_a_server_suggests() -> None:
    for value, age, seconds in (
        ("max-age=3600, s-maxage=0", None, 3600.0),
        ("public, MAX-AGE=60", "59", 1.0),
        ("max-age=60", "61", 0.0),
        ('max-age="60"', "x", 60.0),
        ("max-age=60, max-age=90", None, 60.0),
        ("max-age=999999999", None, 86_400.0),
        ("no-cache", None, None),
        ("max-age=60, no-cache", None, None),
        ("no-store, max-age=60", None, None),
        ("s-maxage=60", None, None),
        ("max-age=-1", None, None),
        ("max-age=9999999999", None, None),
        ("max-age=1.5", None, None),
        ("", None, None),
    ):
        fields = CIMultiDict({"Cache-Control": value} | ({"Age": age} if age else {}))
        assert poll_seconds(fields) == seconds, value
    assert poll_seconds(CIMultiDict()) is None


@given(st.text(max_size=50), st.text(max_size=12))
def test_any_field_is_understood_or_ignored(value: str, age: str) -> None:
    found = poll_seconds(CIMultiDict({"Cache-Control": value, "Age": age}))
    assert found is None or 0.0 <= found <= 86_400.0


async def test_the_origin_says_it_and_the_client_hears_it(tmp_path: Path) -> None:
    from coldchain_server.web.origin import running
    from tests.server.web.published import MemoryStorage

    publisher = Publisher(tmp_path / "publisher", regions=("us",))
    publisher.publish(1, FIRST)
    directory = publisher.client(tmp_path / "endpoint", "http://placeholder.invalid")
    for seconds, hint in ((1800, 1800.0), (0, None)):
        async with running(MemoryStorage(publisher.files), poll_seconds=seconds) as origin:
            for _ in range(3):  # a full check, and quick ones
                told = Told()
                await run(directory, origin.url, told=told)
                assert told.poll_seconds == hint
