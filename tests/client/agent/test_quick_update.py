"""A poll and a pack: two requests for an update, and no word of a pack is believed that would not be believed from the file itself."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from coldchain.agent.network import NetworkSettings
from coldchain.agent.outcome import Outcome
from coldchain.bundle.pack import HEAD_BYTES, encode_head, frame_length, parse_head
from coldchain.errors import AllowanceError, ColdchainError, HeldError, OwnPolicyError, ThrottledError
from coldchain.install.audit import audit
from coldchain.install.directory import ClientDirectory
from coldchain.install.source_health import read_source_health
from coldchain.limits import LIMITS
from tests.client.agent.publisher import FIRST, SECOND, THIRD, Edge, Publisher, hashes, run, serving
from tests.client.agent.raw_server import Asked, RawServer, Writer, answer, raw_server
from tests.client.agent.world import contents, left_over
from tests.client.tlog.memory_log import MemoryLog
from tests.client.tuf.repository import signer

FOURTH = THIRD | {"rules.yar": b"rule D { condition: true }\n"}
RELEASES = [FIRST, SECOND, THIRD, FOURTH]
TIMESTAMP = "metadata/timestamp.json"
Parts = list[tuple[str, bytes]]


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "publisher", log=MemoryLog(), packs=True)
    made.publish(1, FIRST)
    return made


@pytest.fixture
async def endpoint(publisher: Publisher, tmp_path: Path) -> ClientDirectory:
    """An endpoint that holds release 1."""
    directory = publisher.client(tmp_path / "endpoint", "http://placeholder.invalid")
    async with serving(Edge(publisher.files)) as url:
        await run(directory, url)
    return directory


def copy(directory: ClientDirectory, name: str = "copy") -> ClientDirectory:
    path = directory.path.with_name(name)
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(directory.path, path, symlinks=True)
    return ClientDirectory(path)


def pack_of(publisher: Publisher, installed: int, region: str = "us") -> str:
    """The path of the newest pack for this release."""
    snapshot = publisher.repository.documents["snapshot"]["version"]
    return f"packs/{region}/stable/{snapshot}.from-{installed}.pack"


def opened(data: bytes) -> tuple[Parts, str, bytes]:
    """Small parts, the content's path, and the content."""
    frame = data[HEAD_BYTES : HEAD_BYTES + frame_length(data[:HEAD_BYTES])]
    pack = parse_head(data[:HEAD_BYTES], frame, whole=False)
    return list(pack.parts.items()), pack.content, data[pack.start :]


def closed(parts: Sequence[tuple[str, bytes]], content: str, data: bytes) -> bytes:
    return encode_head(parts, content, len(data), whole=False) + data


def log_of(publisher: Publisher) -> MemoryLog:
    assert publisher.log is not None
    return publisher.log


# -- two requests ------------------------------------------------------------------------------------------------------


async def test_an_update_is_a_poll_and_a_pack(publisher: Publisher, endpoint: ClientDirectory) -> None:
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        for number, content in ((2, SECOND), (3, THIRD)):
            publisher.publish(number, content)
            edge.log.clear()
            done = await run(endpoint, url)
            assert edge.paths == [TIMESTAMP, pack_of(publisher, number - 1)]
            assert (done.action, done.release, done.way) == ("updated", number, "delta")
            assert (done.check, done.why, done.requests) == ("quick", None, 2)
            assert contents(endpoint) == content
            assert left_over(endpoint) == []
            assert audit(endpoint, publisher.now).error is None


@pytest.mark.parametrize("others", [0, 1, 300])
async def test_releases_that_were_skipped_and_other_entries_of_the_log_come_in_the_pack_too(
    publisher: Publisher, endpoint: ClientDirectory, others: int
) -> None:
    for number in (2, 3, 4):
        log_of(publisher).append(*(b"another entry %d %d" % (number, one) for one in range(others)))
        publisher.publish(number, RELEASES[number - 1])
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        done = await run(endpoint, url)
    assert (done.release, done.way, done.requests) == (4, "delta", 2)
    assert edge.paths == [TIMESTAMP, pack_of(publisher, 1)]
    assert (endpoint.metadata / "checkpoint").read_bytes() == log_of(publisher).note(at=publisher.now).encode()


async def test_a_step_of_a_rollout_is_one_request_more_for_who_waits_and_who_does_not(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    big = SECOND | {"daily.hsb": hashes(*range(2000))}
    publisher.publish(2, big, share=10)
    edge = Edge(publisher.files)
    slow = copy(endpoint)
    async with serving(edge) as url:
        assert (await run(endpoint, url, draw=lambda _: 0)).requests == 2
        size = len(publisher.files[pack_of(publisher, 1)])
        assert size > 40_000
        for share in (20, 30):
            with pytest.raises(HeldError):
                await run(slow, url, draw=lambda _: 5000)
            publisher.repository.set_rollout(2, share)
            publisher.republish("rollout")
            edge.log.clear()
            done = await run(endpoint, url)
            assert (done.action, done.requests, edge.paths) == ("current", 2, [TIMESTAMP, pack_of(publisher, 2)])
        edge.log.clear()
        with pytest.raises(HeldError):
            await run(slow, url)
        assert edge.paths == [TIMESTAMP, pack_of(publisher, 1)]
        assert edge.log[-1][1]["range"] == "bytes=0-32767", "who has waited before asks for the beginning only"
        publisher.repository.set_rollout(2, 100)
        publisher.republish("rollout")
        other = copy(slow, "other")
        done = await run(slow, url)
        assert (done.release, done.requests, contents(slow)) == (2, 2, big), (
            "a server that knows no ranges sends it all"
        )
    async with publisher.origin() as url:
        done = await run(other, url)
    assert (done.release, done.requests, contents(other)) == (2, 3, big), "the delta is one more"


async def test_who_has_to_wait_reads_no_further_than_the_head(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.publish(2, SECOND, share=10)
    path, broken = pack_of(publisher, 1), asyncio.Event()
    parts, content, _ = opened(publisher.files[path])
    data = closed(parts, content, bytes(50_000_000))

    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        if asked.path != path:
            return server.write(writer, answer(publisher.files[asked.path]))
        try:
            for at in range(0, len(data), 1 << 16):
                server.write(writer, (answer(length=len(data)) if not at else b"") + data[at : at + (1 << 16)])
                await writer.drain()
        except ConnectionError:
            broken.set()
        return None

    async with raw_server(script) as server:
        with pytest.raises(HeldError):
            await run(endpoint, server.url, draw=lambda _: 9999)
        await asyncio.wait_for(broken.wait(), 30)
    assert contents(endpoint) == FIRST
    assert not list(endpoint.staging.glob("*.part"))


async def test_new_roots_and_rotated_keys_come_in_the_pack(publisher: Publisher, endpoint: ClientDirectory) -> None:
    repository = publisher.repository
    repository.set_keys("targets", [signer("new targets 1"), signer("new targets 2")], 2)
    repository.publish_root()
    repository.publish("targets")
    publisher.publish(2, SECOND)
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        done = await run(endpoint, url)
    roots = [path for path, _ in opened(publisher.files[pack_of(publisher, 1)])[0] if path.endswith("root.json")]
    assert roots == ["metadata/2.root.json"]
    assert done.release == 2
    # the targets file was signed before the manifest, as its expiry tells: it is one request more
    assert edge.paths == [TIMESTAMP, pack_of(publisher, 1), repository.name("targets")]
    assert (endpoint.metadata / "roots" / "2.root.json").exists()
    assert audit(endpoint, publisher.now).error is None


async def test_a_pack_that_cannot_know_of_a_new_root_is_nobodys_lie(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """Made before the root was: the full workflow finds it, and the server is not blamed. The same pack with a lie in it is one."""
    repository = publisher.repository
    repository.set_keys("targets", [signer("new targets 1"), signer("new targets 2")], 2)
    repository.publish_root()
    repository.publish("targets")
    publisher.publish(2, SECOND)
    path = pack_of(publisher, 1)
    parts, content, data = opened(publisher.files[path])
    old = closed([one for one in parts if "root" not in one[0]], content, data)
    lie = altered(1)(parts, content, data)
    for pack, blamed in ((old, False), (lie, True)):
        directory = copy(endpoint)
        edge = Edge(publisher.files | {path: pack})
        async with serving(edge) as url, serving(Edge(publisher.files)) as good:
            done = await run(directory, url, good)
        assert (done.release, done.check, contents(directory)) == (2, "full", SECOND)
        assert (edge.url in read_source_health(directory).late) is blamed


async def test_a_rotated_timestamp_key_is_the_full_workflows_business(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    publisher.repository.rotate("timestamp", "another timestamp key")
    publisher.publish(2, SECOND)
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        done = await run(endpoint, url)
    assert (done.release, done.check) == (2, "full")
    assert not any(path.startswith("packs/") for path in edge.paths)


async def test_a_pack_does_not_put_off_the_daily_question_for_a_new_root(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        full = endpoint.state().last_full
        publisher.publish(2, SECOND)
        assert (await run(endpoint, url)).check == "quick"
        assert endpoint.state().last_full == full
        publisher.publish(3, THIRD)
        endpoint.write_state(replace(endpoint.state(), last_full=datetime.now(UTC) - timedelta(days=1)))
        edge.log.clear()
        done = await run(endpoint, url)
    assert (done.release, done.check) == (3, "full")
    assert edge.paths[0] == "metadata/2.root.json"


async def test_a_timestamp_that_is_only_signed_anew_needs_no_pack(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    publisher.repository.publish_timestamp()
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        assert (await run(endpoint, url)).action == "current"
    assert not any(path.startswith("packs/") for path in edge.paths)


@pytest.mark.parametrize("text", ["[release]\nhold = true", "[release]\npin = 1"])
async def test_who_would_not_apply_it_asks_for_no_pack(
    publisher: Publisher, endpoint: ClientDirectory, text: str
) -> None:
    (endpoint.path / "policy.toml").write_text(text)
    publisher.publish(2, SECOND)
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        with pytest.raises(OwnPolicyError):
            await run(endpoint, url)
    assert not any(path.startswith("packs/") for path in edge.paths)


async def test_damage_and_repair_ask_for_no_pack(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.publish(2, SECOND)
    broken = copy(endpoint)
    (broken.current.resolve() / "main.hsb").unlink()
    for directory, options in ((endpoint, {"repair": True}), (broken, {})):
        edge = Edge(publisher.files)
        async with serving(edge) as url:
            assert (await run(directory, url, **options)).release == 2
        assert not any(path.startswith("packs/") for path in edge.paths)
        assert contents(directory) == SECOND


# -- nothing depends on a pack ----------------------------------------------------------------------------------------


async def test_a_server_without_packs_is_not_asked_each_time(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.packs = False
    edge = Edge(publisher.files)

    async def asked(number: int, now: datetime | None = None) -> bool:
        for path in [path for path in publisher.files if path.startswith("packs/")]:
            del publisher.files[path]
        publisher.publish(number, RELEASES[number % 4])
        edge.log.clear()
        done = await run(endpoint, url, **({"now": lambda: now} if now else {}))
        assert (done.release, done.way, contents(endpoint)) == (number, "delta", RELEASES[number % 4])
        return any(path.startswith("packs/") for path in edge.paths)

    async with serving(edge) as url:
        assert await asked(2)
        assert read_source_health(endpoint).late == {}, "it is no fault"
        assert not await asked(3)
        assert not await asked(4)
        known = endpoint.state().packless
        assert known is not None
        later = known.since + timedelta(days=1)
        endpoint.write_state(replace(endpoint.state(), last_full=later - timedelta(hours=1)))
        publisher.repository.now = publisher.now = later.replace(microsecond=0)
        for name, document in publisher.repository.documents.items():
            document["expires"] = (later + timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
            if name == "root":
                document["version"] -= 1
        endpoint.write_state(replace(endpoint.state(), last_full=None))
        assert not await asked(5, later - timedelta(minutes=1)), "a full workflow asks for no pack"
        assert await asked(6, later)


async def test_no_pack_for_a_release_that_no_delta_leads_from_is_nothing_to_remember(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    publisher.releases = {}
    publisher.publish(2, SECOND)
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        done = await run(endpoint, url)
        assert (done.release, done.way) == (2, "full")
        assert pack_of(publisher, 1) in edge.paths
        assert endpoint.state().packless is None
        publisher.publish(3, THIRD)
        assert (await run(endpoint, url)).requests == 2


Change = Callable[[Parts, str, bytes], bytes]


def without(index: int) -> Change:
    return lambda parts, content, data: closed(parts[:index] + parts[index + 1 :], content, data)


def altered(index: int) -> Change:
    def change(parts: Parts, content: str, data: bytes) -> bytes:
        path, part = parts[index]
        middle = len(part) // 2
        bent = part[:middle] + bytes([part[middle] ^ 4]) + part[middle + 1 :]
        return closed([*parts[:index], (path, bent), *parts[index + 1 :]], content, data)

    return change


def emptied(index: int) -> Change:
    return lambda parts, content, data: closed(
        [*parts[:index], (parts[index][0], b""), *parts[index + 1 :]], content, data
    )


def of(packs: Sequence[bytes], index: int) -> Change:
    """The part of the same kind from another pack, under this one's name."""

    def change(parts: Parts, content: str, data: bytes) -> bytes:
        kind = re.sub(r"[0-9a-f]{64}|\d+|us|jp", "*", parts[index][0])
        for pack in packs:
            for path, part in opened(pack)[0]:
                if re.sub(r"[0-9a-f]{64}|\d+|us|jp", "*", path) == kind and part != parts[index][1]:
                    return closed([*parts[:index], (parts[index][0], part), *parts[index + 1 :]], content, data)
        return closed(parts, content, data)

    return change


def content_is(make: Callable[[bytes], bytes]) -> Change:
    return lambda parts, content, data: closed(parts, content, make(data))


LIES: dict[str, Change] = {
    "content altered": content_is(lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "content short": content_is(lambda data: data[:-1]),
    "content long": content_is(lambda data: data + b"x"),
    "content empty": content_is(lambda _: b""),
    "head altered": lambda parts, content, data: closed(parts, content, data).replace(b"coldpack\x02", b"coldpack\x01"),
    "garbage": lambda _parts, _content, _data: b"garbage" * 100,
    "empty": lambda _parts, _content, _data: b"",
    "cut in the head": lambda parts, content, data: closed(parts, content, data)[:200],
}
HARMLESS: dict[str, Change] = {
    "content missing": lambda parts, _content, _data: closed(parts, "", b""),
    "newer format": lambda parts, content, data: closed(parts, content, data).replace(b"coldpack\x02", b"coldpack\x03"),
}


async def test_every_part_that_is_missing_or_wrong_is_as_if_it_had_not_come(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """One source: the update still ends well, from the files themselves. Two: the one whose pack lied is asked later."""
    log_of(publisher).append(b"another entry")
    publisher.publish(2, SECOND)
    older = [publisher.files[pack_of(publisher, one)] for one in (1, 2)]
    publisher.publish(3, THIRD)
    path = pack_of(publisher, 1)
    parts, content, data = opened(publisher.files[path])
    names = [re.sub(r"[0-9a-f]{64}|\d+", "*", name) for name, _ in parts]
    assert names == [
        "metadata/*.snapshot.json",
        "metadata/*.us.json",
        "metadata/*.rollout.json",
        "targets/us/stable/*.evidence.zst",
        "log/consistency/*-*",
        "manifests/*.json",
    ]
    others = [publisher.files[pack_of(publisher, 1, "jp")], publisher.files[pack_of(publisher, 2)]]
    changes: list[tuple[str, Change, bool]] = [(name, one, False) for name, one in HARMLESS.items()]
    changes += [(name, one, True) for name, one in LIES.items()]
    for index, name in enumerate(names):
        changes += [(f"{name} missing", without(index), False), (f"{name} empty", emptied(index), True)]
        changes.append((f"{name} altered", altered(index), True))
        changes.append((f"{name} of another release", of(older, index), True))
        changes.append((f"{name} of another region or source", of(others, index), True))
    async with serving(Edge(publisher.files)) as good:
        for name, change, lie in changes:
            bent = change(parts, content, data)
            same = bent == publisher.files[path]
            edge = Edge(publisher.files, lambda request, _, bent=bent: bent if request.path == f"/{path}" else None)  # type: ignore[misc]
            for urls in (1, 2):
                directory = copy(endpoint)
                edge.log.clear()
                async with serving(edge) as url:
                    done = await run(directory, *[url, good][:urls])
                assert (done.release, contents(directory)) == (3, THIRD), name
                assert left_over(directory) == [], name
                assert audit(directory, publisher.now).error is None, name
                assert path in edge.paths, name
                assert same or done.requests > 2, name
                health = read_source_health(directory).late.get(edge.url)
                if urls == 2 and not same and name not in ("newer format", "cut in the head", "empty"):
                    assert ((health.why if health else "") in ("refused", "behind")) is lie, name


async def test_another_regions_or_sources_pack_is_of_no_use_and_no_harm(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    publisher.publish(2, SECOND)
    old = publisher.files[pack_of(publisher, 1)]
    publisher.publish(3, THIRD)
    path = pack_of(publisher, 1)
    for other in (pack_of(publisher, 1, "jp"), pack_of(publisher, 2), pack_of(publisher, 3), None):
        files = publisher.files | {path: publisher.files[other] if other else old}
        directory = copy(endpoint)
        async with serving(Edge(files)) as url:
            done = await run(directory, url)
        assert (done.release, contents(directory)) == (3, THIRD)
        assert left_over(directory) == []


async def test_a_pack_makes_nothing_accepted_that_is_refused_without_it(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """Every file that a pack may bring, altered in the pack and in the tree alike."""
    log_of(publisher).append(b"another entry")
    publisher.publish(2, SECOND)
    path = pack_of(publisher, 1)
    parts, content, data = opened(publisher.files[path])
    for index, (name, part) in enumerate([*parts, (content, data)]):
        bent = (
            altered(index)(parts, content, data) if name != content else LIES["content altered"](parts, content, data)
        )
        files = publisher.files | {path: bent}
        if name.startswith("log/"):
            files = {one: body for one, body in files.items() if "/tile/" not in one}
        else:
            middle = len(part) // 2
            files[name] = part[:middle] + bytes([part[middle] ^ 4]) + part[middle + 1 :]
        if name == content:
            files = {one: body for one, body in files.items() if not one.endswith(".full.ccd")}
        directory, ends = copy(endpoint), list[type[ColdchainError] | Outcome]()
        for tree in (files, {one: body for one, body in files.items() if not one.startswith("packs/")}):
            async with serving(Edge(tree)) as url:
                try:
                    ends.append(await run(directory, url))
                except ColdchainError as error:
                    ends.append(type(error))
            assert contents(directory) == FIRST, name
        assert isinstance(ends[0], type), name
        assert ends[0] == ends[1], name


# -- broken, slow and endless answers ----------------------------------------------------------------------------------


async def test_content_that_breaks_off_is_gone_on_with_from_the_file_itself(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    publisher.publish(2, SECOND)
    path, delta = pack_of(publisher, 1), publisher.target("from-1.ccd")
    data = publisher.files[path]
    start = len(data) - len(publisher.files[delta])
    for cut in (start, start + 1, start + 100, len(data) - 1):

        async def script(server: RawServer, asked: Asked, writer: Writer, cut: int = cut) -> None:
            if asked.path == path:
                server.write(writer, answer(data[:cut], length=len(data)))
                return
            body, status, fields = publisher.files[asked.path], "200 OK", []
            if found := re.match(r"bytes=(\d+)-", asked.fields.get("range", "")):
                first = int(found[1])
                status, fields = "206 Partial", [f"Content-Range: bytes {first}-{len(body) - 1}/{len(body)}"]
                body = body[first:]
            server.write(writer, answer(body, status, *fields))

        directory = copy(endpoint)
        async with raw_server(script) as server:
            done = await run(directory, server.url)
        assert [one.path for one in server.asked] == [TIMESTAMP, path, delta]
        there = cut - start
        assert server.asked[-1].fields.get("range") == (f"bytes={there}-" if there else None)
        assert (done.release, contents(directory)) == (2, SECOND)
        assert left_over(directory) == []


@pytest.mark.parametrize("where", ["head", "content"])
@pytest.mark.parametrize("what", ["drips", "never ends", "stands still"])
async def test_a_pack_that_drips_or_never_ends_is_given_up(
    publisher: Publisher, endpoint: ClientDirectory, where: str, what: str
) -> None:
    publisher.publish(2, SECOND)
    path = pack_of(publisher, 1)
    data = publisher.files[path]
    start = len(data) - len(publisher.files[publisher.target("from-1.ccd")])
    at = 100 if where == "head" else start + 100

    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        if asked.path != path:
            body = publisher.files.get(asked.path)
            return server.write(writer, answer(body or b"", "200 OK" if body is not None else "404 Not Found"))
        server.write(writer, answer(data[:at], length=len(data) if what != "never ends" else None))
        while what != "stands still":
            server.write(writer, b"x" if what == "drips" else b"x" * 65536)
            await writer.drain()
            await asyncio.sleep(0.02 if what == "drips" else 0)
        await asyncio.sleep(60)
        return None

    limits = replace(LIMITS, download_floor_seconds=0.5, download_min_bytes_per_second=1 << 20)
    async with raw_server(script) as server:
        done = await run(endpoint, server.url, limits=limits)
    assert (done.release, contents(endpoint)) == (2, SECOND)
    assert left_over(endpoint) == []
    assert done.bytes_down < 2_000_000


async def test_a_server_that_is_too_busy_for_packs_is_left_alone(
    publisher: Publisher, endpoint: ClientDirectory, tmp_path: Path
) -> None:
    publisher.publish(2, SECOND)
    busy = web.Response(status=503, headers={"Retry-After": "77"})
    edge = Edge(publisher.files, lambda request, _: busy if request.path.startswith("/packs/") else None)
    second = copy(endpoint)
    async with serving(edge) as url:
        with pytest.raises(ThrottledError) as found:
            await run(endpoint, url)
        assert found.value.retry_after == 77
        assert len(edge.log) == 2
        assert contents(endpoint) == FIRST
    busy = web.Response(status=503, headers={"Retry-After": "77"})
    edge.log.clear()
    async with serving(edge) as url, serving(Edge(publisher.files)) as good:
        assert (await run(second, url, good)).release == 2
        assert len(edge.log) == 2
        assert read_source_health(second).late == {}


async def test_the_customers_caps_hold_for_packs(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.publish(2, SECOND | {"daily.hsb": hashes(*range(1000))})
    size = len(publisher.files[pack_of(publisher, 1)])
    content = len(publisher.files[publisher.target("from-1.ccd")])
    async with serving(Edge(publisher.files)) as url:
        for cap in (content, size):
            directory = copy(endpoint)
            with pytest.raises(AllowanceError):
                await run(directory, url, network=NetworkSettings(most_bytes_per_update=cap))
            delta = next(one for one in opened(publisher.files[pack_of(publisher, 1)])[1].split("/") if ".ccd" in one)
            assert not (directory.staging / f"{delta[:64]}.part").exists(), "nothing of it was read"
        enough = size + len(publisher.files[TIMESTAMP])
        directory = copy(endpoint)
        done = await run(directory, url, network=NetworkSettings(most_bytes_per_update=enough))
        assert (done.requests, done.bytes_down) == (2, enough)
        with pytest.raises(AllowanceError):
            await run(copy(endpoint), url, network=NetworkSettings(most_bytes_per_day=size))
        counted = await run(copy(endpoint), url, network=NetworkSettings(most_bytes_per_day=4 * size))
        assert counted.bytes_down == enough
