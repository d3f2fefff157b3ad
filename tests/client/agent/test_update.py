"""Updates over real sockets: what is fetched, what is installed, and what stands when something is wrong."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from coldchain.bundle.description import BundleDescription
from coldchain.bundle.evidence_file import encode_evidence
from coldchain.errors import (
    ColdchainError,
    DamagedError,
    DigestError,
    EvidenceError,
    ExpiredError,
    HeldError,
    LockedError,
    MalformedError,
    NewerFormatError,
    NotInstalledError,
    NotPublishedError,
    ResponseError,
    RollbackError,
    SignatureError,
    StaleError,
    StorageError,
    ThrottledError,
    TransportError,
    VerificationError,
)
from coldchain.install import versions
from coldchain.install.audit import audit
from coldchain.install.directory import ClientDirectory
from coldchain.limits import LIMITS
from coldchain.verify import EVIDENCE
from coldchain_server.web.origin import running
from tests.client.agent.publisher import FIRST, SECOND, THIRD, Edge, Publisher, installed, metered, run, serving
from tests.client.agent.raw_server import Asked, RawServer, Writer, answer, raw_server
from tests.client.agent.world import World, contents, left_over
from tests.client.tuf.repository import digest, signer
from tests.server.web.published import MemoryStorage

QUICK = replace(LIMITS, connect_seconds=0.5, metadata_seconds=0.3, download_floor_seconds=0.3)


@pytest.fixture
def first(world: World, tmp_path: Path) -> ClientDirectory:
    """An endpoint with release 1."""
    return world.copy(world.first, tmp_path / "endpoint")


@pytest.fixture
def fresh(world: World, tmp_path: Path) -> ClientDirectory:
    return world.copy(world.fresh, tmp_path / "endpoint")


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """One that may be bent, with release 1 out."""
    made = Publisher(tmp_path / "publisher", regions=("us", "jp"))
    made.publish(1, FIRST)
    return made


async def refused(directory: ClientDirectory, *urls: str, **options: object) -> ColdchainError:
    """The error an update ends with; what was installed stands, whole."""
    before = installed(directory)
    with pytest.raises(ColdchainError) as found:
        await run(directory, *urls, **options)
    assert installed(directory) == before
    if before:
        number = versions.linked(directory, directory.current)
        assert number is not None
        assert found.value.kept.startswith((f"release {number.release} stays", "nothing was touched"))
    return found.value


# -- the ordinary way --------------------------------------------------------------------------------------------------


async def test_first_install_then_a_delta_then_a_quick_check(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "publisher")
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
        assert left_over(directory) == []

        meter.up = meter.down = 0
        done = await run(directory)
        assert (done.action, done.check, done.requests) == ("current", "quick", 1)
        assert meter.up <= 150
        assert meter.down <= 180


async def test_another_regions_files_are_refused_and_do_not_stand_in_the_way_of_the_truth(tmp_path: Path) -> None:
    """The same people sign for both regions, so the keys alone do not tell their roles apart."""
    publisher = Publisher(tmp_path)
    publisher.repository.set_keys("jp", publisher.repository.signers["us"], 2)
    publisher.repository.publish("targets")
    publisher.publish(1, FIRST)

    def swapped(request: web.Request, data: bytes) -> bytes:
        path = request.path.lstrip("/")
        if path.endswith(".jp.json"):
            return publisher.files[path.replace(".jp.json", ".us.json")]
        return publisher.files[publisher.target(path.split(".", 1)[1])] if path.startswith("targets/jp/") else data

    edge = Edge(publisher.files, swapped)
    async with publisher.origin() as url, serving(edge) as hostile:
        directory = publisher.client(tmp_path / "endpoint", url, region="jp")
        for number, contents_ in ((1, FIRST), (2, SECOND), (3, THIRD)):
            if number > 1:
                publisher.publish(number, contents_)
            with pytest.raises(MalformedError, match="'region' is not 'jp'"):
                await run(directory, hostile)
            assert contents(directory) == (FIRST if number == 2 else SECOND if number == 3 else {})
            done = await run(directory)
            assert (done.release, contents(directory)) == (number, contents_)


async def test_a_quick_check_changes_nothing_but_the_time_of_it(world: World, first: ClientDirectory) -> None:
    async with serving(Edge(world.one)) as url:
        await run(first, url)
        before = {path: path.lstat().st_ino for path in first.path.rglob("*")}
        done = await run(first, url, now=lambda: datetime.now(UTC) + timedelta(minutes=1))
        assert (done.check, done.requests) == ("quick", 1)
        after = {path: path.lstat().st_ino for path in first.path.rglob("*")}
        assert [path.name for path in before if before[path] != after.get(path)] == ["state.json"]
        assert set(before) == set(after)


async def test_the_full_workflow_asks_in_the_order_of_the_specification(world: World, fresh: ClientDirectory) -> None:
    edge = Edge(world.two)
    async with serving(edge) as url:
        done = await run(fresh, url)
    names = world.names
    order = ["timestamp", "snapshot", "targets", "us", "rollout", "evidence", "full"]
    assert edge.paths == ["metadata/2.root.json", *(names[name] for name in order)]
    assert (done.requests, done.why) == (8, "no timestamp is stored")
    assert done.bytes_down == sum(len(world.two[names[name]]) for name in order)


@pytest.mark.parametrize(
    ("hours", "check", "why"),
    [(0, "quick", None), (17, "quick", None), (18.1, "full", "6 hours"), (-1, "full", "clock went back")],
)
async def test_when_the_full_workflow_is_due(
    world: World, first: ClientDirectory, hours: float, check: str, why: str | None
) -> None:
    then = world.publisher.now + timedelta(hours=hours)
    first.write_state(replace(first.state(), last_full=world.publisher.now))
    async with serving(Edge(world.one)) as url:
        done = await run(first, url, now=lambda: then)
    assert done.check == check
    assert (why or "") in (done.why or "")


async def test_previous_is_the_last_known_good_one_and_older_ones_go(tmp_path: Path, publisher: Publisher) -> None:
    async with publisher.origin() as url:
        directory = publisher.client(tmp_path / "endpoint", url)
        await run(directory)
        for release, new in ((2, SECOND), (3, THIRD), (4, FIRST)):
            publisher.publish(release, new)
            done = await run(directory)
            assert (done.release, done.way) == (release, "delta")
            assert contents(directory) == new
            assert [one.release for one in versions.installed(directory)] == [release, release - 1]
            assert left_over(directory) == []
            assert audit(directory, publisher.now).error is None


async def test_a_region_gets_its_own_and_another_regions_role_is_refused(tmp_path: Path, publisher: Publisher) -> None:
    repository = publisher.repository
    swapped = dict(publisher.files)
    swapped[repository.name("us")] = publisher.files[repository.name("jp")]
    directory = publisher.client(tmp_path / "endpoint", "http://placeholder.invalid")
    async with serving(Edge(swapped)) as url:
        error = await refused(directory, url)
        assert isinstance(error, VerificationError)
    async with publisher.origin() as url:
        assert (await run(directory, url)).release == 1


# -- sources: the next one is tried, and when none is good, the cause has its own exit code --------------------------


def status(code: int, **fields: str) -> Callable[[str], web.Response]:
    return lambda _url: web.Response(
        status=code, headers={name.replace("_", "-"): value for name, value in fields.items()}
    )


KINDS: dict[str, tuple[Callable[[str], web.Response], type[ColdchainError], int]] = {
    "403": (status(403), ResponseError, 22),
    "404": (status(404), ResponseError, 22),
    "429": (status(429), ThrottledError, 21),
    "429 after": (status(429, Retry_After="77"), ThrottledError, 21),
    "500": (status(500), ResponseError, 22),
    "503": (status(503), ThrottledError, 21),
    "503 after": (status(503, Retry_After="77"), ThrottledError, 21),
    "redirect": (lambda url: web.Response(status=302, headers={"Location": url}), ResponseError, 22),
    "encoded": (lambda _: web.Response(body=b"x" * 100, headers={"Content-Encoding": "gzip"}), ResponseError, 22),
    "garbage": (lambda _: web.Response(body=b"garbage"), VerificationError, 12),
    "empty": (lambda _: web.Response(body=b""), VerificationError, 12),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["metadata", "targets"])
async def test_a_bad_server_is_passed_over(world: World, first: ClientDirectory, kind: str, where: str) -> None:
    make, error, code = KINDS[kind]
    good = Edge(world.two)
    async with serving(good) as url:
        bad = Edge(world.two, lambda request, _: make(url) if request.path.startswith(f"/{where}/") else None)
        async with serving(bad) as bad_url:
            found = await refused(first, bad_url)
            if where == "targets" and code == 12:
                error, code = ResponseError, 22  # another length than the signed one is seen before a byte is read
            assert (type(found), found.exit_code) == (error, code) or isinstance(found, error)
            assert found.exit_code == code
            if "after" in kind:
                assert isinstance(found, ThrottledError)
                assert found.retry_after == 77
            assert good.log == []
            done = await run(first, bad_url, url)
    assert (done.action, done.release) == ("updated", 2)
    assert contents(first) == SECOND
    assert left_over(first) == []


async def test_a_server_that_is_too_busy_is_asked_once(world: World, first: ClientDirectory) -> None:
    edge = Edge(world.two, lambda _request, _data: web.Response(status=503, headers={"Retry-After": "9"}))
    async with serving(edge) as url:
        await refused(first, url)
        assert len(edge.log) == 1


@pytest.mark.parametrize("at", ["head", "header", "body", "nothing"])
@pytest.mark.parametrize("path", ["metadata/timestamp.json", "targets/"])
async def test_a_server_that_stalls_or_drips_is_passed_over(
    world: World, first: ClientDirectory, at: str, path: str
) -> None:
    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        data = answer(world.two[asked.path]) if asked.path in world.two else answer(b"", "404 No")
        if asked.path.startswith(path):
            server.write(writer, data[: {"head": 5, "header": 20, "body": -1, "nothing": 0}[at]])
            await writer.drain()
            await asyncio.sleep(3600)
        server.write(writer, data)

    async with raw_server(script) as bad, serving(Edge(world.two)) as url:
        found = await refused(first, bad.url, limits=QUICK)
        assert type(found) is TransportError
        assert found.exit_code == 20
        done = await run(first, bad.url, url, limits=QUICK)
    assert done.release == 2


async def test_nobody_there(world: World, first: ClientDirectory) -> None:
    found = await refused(first, "http://127.0.0.1:1", "http://127.0.0.1:2")
    assert (type(found), found.exit_code) == (TransportError, 20)
    async with serving(Edge(world.two)) as url:
        assert (await run(first, "http://127.0.0.1:1", url)).release == 2


async def test_bytes_that_lie_are_told_before_servers_that_are_silent(world: World, first: ClientDirectory) -> None:
    lying = Edge(world.two, lambda _request, data: data.replace(b'"sig":"', b'"sig":"0', 1))
    async with serving(lying) as url:
        found = await refused(first, "http://127.0.0.1:1", url)
    assert isinstance(found, VerificationError)


async def test_old_metadata_that_nobody_renews_is_stale(world: World, first: ClientDirectory) -> None:
    for days, error, code in ((0, TransportError, 20), (2, StaleError, 10)):
        then = world.publisher.now + timedelta(days=days)
        found = await refused(first, "http://127.0.0.1:1", now=lambda then=then: then)
        assert (type(found), found.exit_code) == (error, code)
        assert ("no fresh metadata since" in found.what) == (days > 0)


# -- downloads: gone on with, across servers and runs ----------------------------------------------------------------


async def test_a_download_is_gone_on_with_by_the_next_run(world: World, fresh: ClientDirectory) -> None:
    published = world.names["full"]
    whole = len(world.two[published])

    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        data = world.two.get(asked.path)
        if data is None:
            server.write(writer, answer(b"", "404 No"))
        elif asked.path != published:
            server.write(writer, answer(data))
        elif "range" not in asked.fields:
            server.write(writer, answer(data)[: -whole // 2])
        # otherwise: nothing at all, so no byte is added

    async with raw_server(script) as broken:
        found = await refused(fresh, broken.url)
        assert isinstance(found, TransportError)
        asked = [one.fields.get("range") for one in broken.asked if one.path == published]
        assert (
            2 <= len(asked) <= 3
        )  # once more because bytes came (aiohttp may repeat that), and no more because none did
    edge = Edge(world.two)
    async with serving(edge) as url:
        done = await run(fresh, url)
    fields = dict(edge.log)[published]
    start = int(fields["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start < whole
    assert done.release == 2
    assert contents(fresh) == SECOND


async def test_a_connection_that_breaks_is_taken_up_again_in_the_same_run(world: World, fresh: ClientDirectory) -> None:
    published, data = world.names["full"], world.two[world.names["full"]]
    third = len(data) // 3

    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        if asked.path not in world.two:
            server.write(writer, answer(b"", "404 No"))
        elif asked.path != published:
            server.write(writer, answer(world.two[asked.path]))
        else:
            start = int(asked.fields.get("range", "bytes=0-")[6:-1])
            ranged = ("206 Partial", f"Content-Range: bytes {start}-{len(data) - 1}/{len(data)}")
            head = ("200 OK",) if not start else ranged
            body = answer(data[start:], *head)
            server.write(writer, body[: len(body) - len(data) + start + third])

    async with raw_server(script) as server:
        done = await run(fresh, server.url)
        assert done.release == 2
        assert sum(one.path == published for one in server.asked) in (3, 4)
    assert contents(fresh) == SECOND


@pytest.mark.parametrize("wrong", [b"x" * 5000, None])
async def test_a_poisoned_beginning_does_not_spoil_a_good_server(
    world: World, fresh: ClientDirectory, wrong: bytes | None
) -> None:
    """One mirror sends half a file of wrong bytes and breaks off; the next one is asked to go on, and is not blamed."""
    published, data = world.names["full"], world.two[world.names["full"]]

    async def script(server: RawServer, asked: Asked, writer: Writer) -> None:
        if asked.path not in world.two:
            server.write(writer, answer(b"", "404 No"))
        elif asked.path != published:
            server.write(writer, answer(world.two[asked.path]))
        elif "range" not in asked.fields:
            lie = wrong or data[: len(data) // 2 - 1] + b"!"
            server.write(writer, answer(lie, length=len(data)))

    # The real origin goes on where it is told to, so what it sends does not fit the wrong beginning.
    async with raw_server(script) as evil, running(MemoryStorage(dict(world.two))) as origin:
        url = origin.url
        assert isinstance(await refused(fresh, evil.url), TransportError)
        assert any(fresh.staging.iterdir())
        done = await run(fresh, evil.url, url)
        assert done.release == 2
    assert contents(fresh) == SECOND
    assert left_over(fresh) == []


async def test_downloads_of_releases_that_are_past_are_removed(world: World, first: ClientDirectory) -> None:
    for name in ("ab" * 32 + ".part", "junk"):
        (first.staging / name).write_bytes(b"x")
    (first.staging / "new").mkdir()
    (first.staging / "new" / "daily.hsb").write_bytes(b"x")
    async with serving(Edge(world.two)) as url:
        await run(first, url)
    assert left_over(first) == []


# -- deltas that do not apply ------------------------------------------------------------------------------------------


def wrong_delta(publisher: Publisher, data: bytes) -> None:
    """Signs ``data`` as the delta from release 1."""
    document = publisher.repository.documents["us"]
    document["targets"]["us/stable/from-1.ccd"] = {"length": len(data), "hashes": {"sha256": digest(data)}}
    publisher.files[publisher.path(data, "from-1.ccd")] = data
    publisher.repository.publish("us")


def bundle_of(publisher: Publisher, release: int) -> BundleDescription:
    return publisher.releases["us"][release]


@pytest.mark.parametrize("kind", ["of another base", "garbage", "empty", "newer format", "cut"])
async def test_a_delta_that_does_not_apply_gives_way_to_the_full_bundle(
    tmp_path: Path, publisher: Publisher, kind: str
) -> None:
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        directory = publisher.client(tmp_path / "endpoint", url)
        await run(directory)
        publisher.publish(2, SECOND)
        good = publisher.files[publisher.target("from-1.ccd")]
        full = publisher.target("full.ccd")
        data = {
            "of another base": publisher.encode(publisher.describe("us", 1, THIRD), bundle_of(publisher, 2)),
            "garbage": b"x" * 500,
            "empty": b"",
            "newer format": b"CCD\x02" + good[4:],
            "cut": good[:-1],
        }[kind]
        wrong_delta(publisher, data)
        delta = publisher.target("from-1.ccd")

        # The full bundle cannot be had: the delta is remembered, and not fetched again by the next run.
        edge.lie = lambda request, _: web.Response(status=500) if request.path == f"/{full}" else None
        assert isinstance(await refused(directory), ResponseError)
        assert edge.paths.count(delta) == (1 if data else 0)  # nothing to fetch, and still wrong
        assert directory.state().refused_deltas == (digest(data),)
        assert isinstance(await refused(directory), ResponseError)
        edge.lie = lambda _request, _data: None
        edge.log.clear()
        done = await run(directory)
        assert edge.paths.count(delta) == 0
    assert (done.action, done.release, done.way) == ("updated", 2, "full")
    assert done.fallback == "this delta did not apply here before"
    assert contents(directory) == SECOND
    assert directory.state().refused_deltas == ()
    assert left_over(directory) == []
    assert [one.release for one in versions.installed(directory)] == [2, 1]


@pytest.mark.parametrize("full", [False, True])
async def test_delta_and_full_bundle_in_one_run(tmp_path: Path, publisher: Publisher, full: bool) -> None:
    async with publisher.origin() as url:
        directory = publisher.client(tmp_path / "endpoint", url)
        await run(directory)
        publisher.publish(2, SECOND)
        wrong_delta(publisher, publisher.files[publisher.target("full.ccd")] if full else b"CCD\x01garbage")
        done = await run(directory)
    assert (done.release, done.way) == (2, "full")
    assert done.fallback
    assert contents(directory) == SECOND


@pytest.mark.parametrize("name", ["full.ccd", "from-1.ccd"])
async def test_a_newer_format_is_not_called_an_attack(tmp_path: Path, publisher: Publisher, name: str) -> None:
    async with publisher.origin() as url:
        directory = publisher.client(tmp_path / "endpoint", url)
        await run(directory)
        publisher.publish(2, SECOND)
        for one in ("full.ccd", "from-1.ccd"):
            data = b"CCD\x02" + publisher.files[publisher.target(one)][4:]
            document = publisher.repository.documents["us"]
            document["targets"][f"us/stable/{one}"] = {"length": len(data), "hashes": {"sha256": digest(data)}}
            publisher.files[publisher.path(data, one)] = data
        publisher.repository.publish("us")
        found = await refused(directory)
    assert (type(found), found.exit_code) == (NewerFormatError, 17)
    assert "newer client" in found.todo


# -- damage is repaired ------------------------------------------------------------------------------------------------


def replace_by(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": lambda path: path.write_bytes(b"X" + path.read_bytes()[1:]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "gone": lambda path: path.unlink(),
    "directory": lambda path: replace_by(path, Path.mkdir),
    "link": lambda path: replace_by(path, lambda one: one.symlink_to("/etc/passwd")),
    "version gone": lambda path: shutil.rmtree(path.parent),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["daily.hsb", "main.hsb", "bundle.json"])
async def test_a_damaged_version_is_repaired_and_never_built_upon(
    world: World, tmp_path: Path, first: ClientDirectory, damage: str, name: str
) -> None:
    """``main.hsb`` is kept from release to release, ``daily.hsb`` changes."""
    async with serving(Edge(world.one)) as one, serving(Edge(world.two)) as two:
        DAMAGES[damage](first.current.resolve() / name)
        if damage == "flipped" and name != "bundle.json":
            # Not seen without hashing everything: that is what verify is for, and what it tells to do.
            assert (await run(first, one)).action == "current"
            assert isinstance(audit(first, world.publisher.now).error, DamagedError)
            done = await run(first, one, repair=True)
        else:
            done = await run(first, one)
        assert (done.action, done.release, done.way) == ("repaired", 1, "full")
        assert contents(first) == FIRST
        assert audit(first, world.publisher.now).error is None
        assert left_over(first) == []
        assert not first.previous.is_symlink()  # what was damaged is nothing to go back to

        again = world.copy(world.first, tmp_path / "other")
        DAMAGES[damage](again.current.resolve() / name)
        done = await run(again, two)
        assert (done.action, done.release, done.way) == ("updated", 2, "full")
        assert done.fallback
        assert contents(again) == SECOND
        assert not again.previous.is_symlink()
        assert left_over(again) == []


async def test_a_repair_that_was_asked_for_fetches_the_full_bundle(world: World, first: ClientDirectory) -> None:
    async with serving(Edge(world.one)) as url:
        done = await run(first, url, repair=True)
    assert (done.action, done.way, done.release) == ("repaired", "full", 1)
    assert first.current.readlink().name.endswith(".2")
    assert audit(first, world.publisher.now).error is None


@pytest.mark.parametrize("held", [True, False])
async def test_damage_is_repaired_while_the_newer_release_is_held(
    tmp_path: Path, publisher: Publisher, held: bool
) -> None:
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        directory = publisher.client(tmp_path / "endpoint", url)
        await run(directory)
        publisher.publish(2, SECOND, share=50 if held else 0, held=held)
        (directory.current.resolve() / "daily.hsb").unlink()
        with pytest.raises(HeldError, match=r"release 1 was damaged .* and is repaired"):
            await run(directory)
        assert contents(directory) == FIRST
        assert audit(directory, publisher.now).error is None
        assert isinstance(await refused(directory), HeldError)

        # Without its evidence nobody can say what release 1 was.
        (directory.current.resolve() / "daily.hsb").unlink()
        shutil.rmtree((directory.signed / directory.current.readlink().name).resolve())
        found = await refused(directory)
        assert isinstance(found, DamagedError)
        assert "cannot be repaired" in found.what


async def test_lost_evidence_comes_back_with_the_next_check(world: World, first: ClientDirectory) -> None:
    shutil.rmtree(first.signed)
    assert audit(first, world.publisher.now).error is not None
    async with serving(Edge(world.one)) as url:
        assert (await run(first, url)).action == "current"
    assert audit(first, world.publisher.now).error is None


@pytest.mark.parametrize("name", ["root", "timestamp", "snapshot", "targets", "us", "rollout", "state"])
@pytest.mark.parametrize("damage", [b"", b"{}", None])
async def test_damaged_metadata_heals(world: World, first: ClientDirectory, name: str, damage: bytes | None) -> None:
    path = first.path / "state.json" if name == "state" else first.metadata / f"{name}.json"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    async with serving(Edge(world.two)) as url:
        assert (await run(first, url)).release == 2
        assert (await run(first, url)).check == "quick"
    assert audit(first, world.publisher.now).error is None


# -- rollouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bucket", "share", "applies"),
    [(0, 0, False), (0, 1, True), (99, 1, True), (100, 1, False), (9999, 100, True), (9999, 99, False)],
)
async def test_an_endpoint_applies_when_its_bucket_is_below_the_share(
    tmp_path: Path, publisher: Publisher, bucket: int, share: int, applies: bool
) -> None:
    drawn: list[int] = []

    def draw(below: int) -> int:
        drawn.append(below)
        return bucket

    async with publisher.origin() as url:
        directory = publisher.client(tmp_path / "endpoint", url)
        await run(directory)
        publisher.publish(2, SECOND, share=share)
        if applies:
            assert (await run(directory, draw=draw)).release == 2
        else:
            for _ in range(2):
                found = await refused(directory, draw=draw)
                assert (type(found), found.exit_code) == (HeldError, 11)
                assert found.todo
            publisher.repository.set_rollout(2, 100, held=True)
            publisher.repository.publish("rollout")
            assert "held at 100 %" in (await refused(directory, draw=draw)).what
            publisher.repository.set_rollout(2, 100)
            publisher.repository.publish("rollout")
            assert (await run(directory, draw=draw)).release == 2
        assert drawn == [10_000]  # once per release, however often one asks
        assert directory.state().bucket == (2, bucket)


async def test_an_endpoint_without_anything_waits_for_no_share_but_for_the_end_of_a_hold(
    tmp_path: Path, publisher: Publisher
) -> None:
    async with publisher.origin() as url:
        publisher.publish(2, SECOND, share=0, held=True)
        directory = publisher.client(tmp_path / "endpoint", url)
        assert "is held" in (await refused(directory, draw=lambda _: 9999)).what
        publisher.repository.set_rollout(2, 0)
        publisher.repository.publish("rollout")
        assert (await run(directory, draw=lambda _: 9999)).release == 2


# -- attacks on the whole --------------------------------------------------------------------------------------------


async def test_older_metadata_and_older_releases_are_refused(tmp_path: Path, publisher: Publisher) -> None:
    one = dict(publisher.files)
    directory = publisher.client(tmp_path / "endpoint", "http://placeholder.invalid")
    publisher.publish(2, SECOND)
    async with publisher.origin() as url:
        await run(directory, url)
        async with serving(Edge(one)) as old:
            found = await refused(directory, old)
            assert (type(found), found.exit_code) == (RollbackError, 13)
            assert (await run(directory, old, url)).action == "current"
        # Newer metadata with an older release in it: withdrawing is done by a higher one.
        publisher.releases.clear()
        publisher.publish(1, FIRST)
        found = await refused(directory, url)
        assert (type(found), found.exit_code) == (RollbackError, 13)
        publisher.publish(3, FIRST)
        assert (await run(directory, url)).release == 3
    assert contents(directory) == FIRST


async def test_one_release_has_one_content(tmp_path: Path, publisher: Publisher) -> None:
    async with publisher.origin() as url:
        directory = publisher.client(tmp_path / "endpoint", url)
        await run(directory)
        publisher.releases.clear()
        publisher.publish(1, SECOND)
        found = await refused(directory)
    assert type(found) is VerificationError
    assert "another bundle" in found.what


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "us", "rollout"])
async def test_the_keys_of_a_role_change(tmp_path: Path, publisher: Publisher, role: str) -> None:
    repository = publisher.repository
    async with publisher.origin() as url:
        directory = publisher.client(tmp_path / "endpoint", url)
        await run(directory)
        old = repository.signers["root"]
        count = len(repository.signers[role])
        top = role in ("root", "timestamp", "snapshot", "targets")
        repository.set_keys(role, [signer(f"new {role} {number}") for number in range(count)], count)
        if top:
            repository.publish_root(also=old)
        publisher.publish(2, SECOND) if top else repository.publish("targets", role)
        if not top:
            publisher.publish(2, SECOND)
        repository.publish("targets")
        done = await run(directory)
        assert (done.release, done.way) == (2, "delta")
        assert audit(directory, publisher.now).error is None
        assert (directory.roots / "2.root.json").exists() == top

        # What the old keys sign is refused from now on.
        if role in ("timestamp", "snapshot"):
            repository.signers[role] = [signer(f"{role} 0")]
            repository.publish_timestamp() if role == "timestamp" else repository.publish("us")
            assert isinstance(await refused(directory), SignatureError)


@pytest.mark.parametrize("years", [10, -10])
async def test_a_wrong_clock(world: World, first: ClientDirectory, years: int) -> None:
    wrong = world.publisher.now + timedelta(days=3652 * (1 if years > 0 else -1))
    async with serving(Edge(world.two)) as url:
        if years > 0:
            found = await refused(first, url, now=lambda: wrong)
            assert (type(found), found.exit_code) == (ExpiredError, 14)
            assert f"this machine's clock says {wrong:%Y}" in found.what
            assert "check the clock" in found.todo
        else:
            # Nothing has expired; versions still only grow, and everything is asked for in full.
            done = await run(first, url, now=lambda: wrong)
            assert (done.release, done.check) == (2, "full")
        done = await run(first, url)
        assert (done.release, done.check) == (2, "full")
        assert (await run(first, url)).check == "quick"


async def test_a_clock_that_goes_back_in_the_middle_of_a_run_is_not_asked_again(
    world: World, first: ClientDirectory
) -> None:
    times = iter([world.publisher.now])
    async with serving(Edge(world.two)) as url:
        assert (await run(first, url, now=lambda: next(times))).release == 2


async def test_a_frozen_mirror_is_told_when_its_metadata_has_expired(world: World, first: ClientDirectory) -> None:
    async with serving(Edge(world.one)) as url:
        for hours in (1, 23):
            then = world.publisher.now + timedelta(hours=hours)
            assert (await run(first, url, now=lambda then=then: then)).action == "current"
        found = await refused(first, url, now=lambda: world.publisher.now + timedelta(hours=25))
    assert isinstance(found, ExpiredError)


# -- signed, and still wrong -------------------------------------------------------------------------------------------


async def test_a_manifest_about_something_else(tmp_path: Path, publisher: Publisher) -> None:
    async with publisher.origin() as url:
        directory = publisher.client(tmp_path / "endpoint", url)
        await run(directory)
        other = publisher.manifest()
        publisher.publish(2, SECOND)
        good = publisher.manifest()
        bundle = bundle_of(publisher, 2).digest.encode()
        for manifest, error in (
            (other, EvidenceError),
            (good.replace(bundle, bundle[::-1]), EvidenceError),
            (good[:-1], EvidenceError),
            (good.replace(b"manifest-1", b"manifest-2"), NewerFormatError),
        ):
            publisher.name_evidence(manifest, None)
            publisher.repository.publish("us")
            found = await refused(directory)
            assert type(found) is error, manifest[:60]
    assert EvidenceError.exit_code == 16


async def test_a_bundle_that_is_named_otherwise(tmp_path: Path, publisher: Publisher) -> None:
    """The region's role signs the bundle of another region: every digest agrees, and it is refused by its name."""
    publisher.publish(2, SECOND)
    other = publisher.releases["jp"][2]
    full = publisher.encode(None, other)
    manifest = publisher.manifest()
    manifest = manifest.replace(bundle_of(publisher, 2).digest.encode(), other.digest.encode())
    publisher.sign("us", other, {"full.ccd": full, EVIDENCE: encode_evidence(manifest, None)})
    publisher.repository.publish("us")
    async with publisher.origin() as url:
        directory = publisher.client(tmp_path / "endpoint", url)
        found = await refused(directory)
    assert isinstance(found, MalformedError)
    assert "names itself coldchain jp stable 2" in found.what
    assert installed(directory) == {}


async def test_nothing_is_published_for_the_channel(tmp_path: Path, publisher: Publisher) -> None:
    directory = publisher.client(tmp_path / "endpoint", "http://placeholder.invalid")
    directory.write_config(replace(directory.config(), channel="early"))
    async with publisher.origin() as url:
        found = await refused(directory, url)
    assert (type(found), found.exit_code) == (NotPublishedError, 18)


# -- the directory -----------------------------------------------------------------------------------------------------


async def test_two_updates_of_one_directory(world: World, first: ClientDirectory) -> None:
    async with serving(Edge(world.two)) as url:
        ends = await asyncio.gather(*(run(ClientDirectory(first.path), url) for _ in range(8)), return_exceptions=True)
    done = [end for end in ends if not isinstance(end, BaseException)]
    locked = [end for end in ends if isinstance(end, LockedError)]
    assert (len(done), len(locked)) == (1, 7)
    assert all(error.exit_code == 42 and error.kept == "nothing was touched" for error in locked)
    assert contents(first) == SECOND
    assert left_over(first) == []


async def test_a_directory_that_was_never_initialised(tmp_path: Path) -> None:
    found = await refused(ClientDirectory(tmp_path / "nothing"))
    assert (type(found), found.exit_code) == (NotInstalledError, 41)
    assert not (tmp_path / "nothing").exists()


async def test_things_of_others_in_the_directory_stay_and_are_no_hindrance(
    world: World, first: ClientDirectory
) -> None:
    (first.path / "lost+found").mkdir()
    async with serving(Edge(world.two)) as url:
        assert (await run(first, url)).release == 2
    assert (first.path / "lost+found").is_dir()


async def test_a_disk_that_refuses_is_told_and_nothing_is_lost(
    world: World, first: ClientDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with serving(Edge(world.two)) as url:
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            found = await refused(first, url)
        assert (type(found), found.exit_code) == (StorageError, 43)
        assert "No space left" in found.what
        assert "free space" in found.todo
        assert (await run(first, url)).release == 2


async def test_the_directory_is_swapped_while_an_update_runs(
    world: World, tmp_path: Path, first: ClientDirectory
) -> None:
    evil = tmp_path / "evil"
    ClientDirectory(evil).make()
    before = sorted(evil.rglob("*"))

    def lie(request: web.Request, _data: bytes) -> None:
        if request.path.lstrip("/") == world.names["delta"]:
            first.path.rename(tmp_path / "moved")
            first.path.symlink_to(evil)

    async with serving(Edge(world.two, lie)) as url:
        try:
            await run(first, url)
        except ColdchainError as error:
            assert error.kept  # noqa: PT017  whether it ends well is open: nothing may land elsewhere
        assert sorted(evil.rglob("*")) == before
        first.path.unlink()
        (tmp_path / "moved").rename(first.path)
        assert contents(first) in (FIRST, SECOND)
        await run(first, url)
    assert contents(first) == SECOND


def test_every_cause_has_its_own_exit_code() -> None:
    refusals = (VerificationError, SignatureError, MalformedError, DigestError)
    causes = (
        StaleError, HeldError, RollbackError, ExpiredError, EvidenceError, NewerFormatError, NotPublishedError,
        TransportError, ThrottledError, ResponseError, DamagedError, NotInstalledError, LockedError, StorageError,
    )  # fmt: skip
    codes = [one.exit_code for one in causes]
    assert len({*codes, 12}) == len(causes) + 1
    assert {one.exit_code for one in refusals} == {12}
