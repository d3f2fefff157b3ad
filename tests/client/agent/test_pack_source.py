"""Updates from packs: the same verification as from a server, without one. A pack that is not good in every part changes nothing."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from coldchain.agent.make_pack import Made, Wanted, make_pack
from coldchain.agent.outcome import Outcome
from coldchain.agent.update import Settings, update
from coldchain.bundle.pack import Pack, encode_head, read_pack
from coldchain.errors import (
    ColdchainError,
    EvidenceError,
    ExpiredError,
    HeldError,
    MalformedError,
    NotPublishedError,
    ResponseError,
    RollbackError,
    UsageError,
    VerificationError,
)
from coldchain.install.directory import ClientDirectory
from coldchain.pack_audit import PackAudit, audit_pack
from tests.client.agent.publisher import FIRST, SECOND, THIRD, Publisher, run
from tests.client.agent.world import contents, left_over
from tests.client.tlog.memory_log import MemoryLog

FOURTH = THIRD | {"rules.yar": b"rule D { condition: true }\n"}
RELEASES = [FIRST, SECOND, THIRD, FOURTH]


@dataclass
class AirGap:
    """A publisher with four releases and a root that was rotated once, and endpoints that stand at 0 to 3."""

    folder: Path
    publisher: Publisher
    tree: Path
    pinned: bytes

    @property
    def now(self) -> datetime:
        return self.publisher.now

    def endpoint(self, release: int, name: str = "endpoint") -> ClientDirectory:
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.folder / f"at-{release}", path, symlinks=True)
        return ClientDirectory(path)

    def make(self, start: int | None, **changed: str) -> tuple[bytes, Made]:
        path = self.folder / "made.pack"
        wanted = Wanted(changed.get("region", "us"), start=start)
        made = asyncio.run(make_pack(str(self.tree), self.pinned, path, wanted, self.now))
        return path.read_bytes(), made

    def apply(self, directory: ClientDirectory, data: bytes, **options: object) -> Outcome:
        path = self.folder / "carried.pack"
        path.write_bytes(data)
        return asyncio.run(update(directory, Settings(pack=path, **options)))  # type: ignore[arg-type]

    def audit(self, data: bytes, now: datetime | None = None, **options: object) -> PackAudit:
        path = self.folder / "carried.pack"
        path.write_bytes(data)
        with path.open("rb") as file:
            pack = read_pack(file, len(data))
            return audit_pack(pack, file, self.pinned, now or self.now, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def gap(tmp_path_factory: pytest.TempPathFactory) -> AirGap:
    folder = tmp_path_factory.mktemp("gap")
    log = MemoryLog()
    log.append(*(f"an older entry {n}".encode() for n in range(253)))
    publisher = Publisher(folder / "publisher", log=log)
    pinned = publisher.repository.pinned
    tree = folder / "tree"
    publisher.client(folder / "at-0", str(tree))
    for number, content in enumerate(RELEASES, 1):
        if number == 4:
            publisher.repository.publish_root()
        publisher.publish(number, content)
        publisher.write(tree)
        if number < 4:
            publisher.client(folder / f"at-{number}", str(tree))
            asyncio.run(run(ClientDirectory(folder / f"at-{number}")))
    return AirGap(folder, publisher, tree, pinned)


@pytest.fixture(scope="module")
def good(gap: AirGap) -> bytes:
    """A pack from release 2, of which an endpoint at 2 needs every part: the new root, the tiles, a manifest between."""
    return gap.make(2)[0]


def opened(data: bytes) -> Pack:
    import io

    return read_pack(io.BytesIO(data), len(data))


def rebuilt(data: bytes, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]]) -> bytes:
    """The pack with other parts, the container in order."""
    pack = opened(data)
    content = data[pack.start :]
    return encode_head(change(list(pack.parts.items())), pack.content, len(content)) + content


def test_every_pack_brings_its_endpoint_to_the_newest_release(gap: AirGap) -> None:
    for start in range(4):
        data, made = gap.make(start or None)
        assert (made.release, made.start, made.content + made.overhead) == (4, start or None, len(data))
        found = gap.audit(data, region="us", channel="stable")
        assert found.error is None, found.checks
        directory = gap.endpoint(start)
        done = gap.apply(directory, data)
        assert (done.release, done.way) == (4, "delta" if start else "full")
        assert contents(directory) == FOURTH
        assert left_over(directory) == []
        assert gap.apply(directory, data).action == "current"
        # The same evidence is kept as after an update over a network.
        other = gap.endpoint(start, "other")
        asyncio.run(run(other))
        kept = [
            {p.name: p.read_bytes() for p in (d.signed / d.current.readlink().name).iterdir()}
            for d in (directory, other)
        ]
        assert {**kept[0], "applied.json": b""} == {**kept[1], "applied.json": b""}
        assert (directory.metadata / "checkpoint").read_bytes() == (other.metadata / "checkpoint").read_bytes()


def test_a_full_pack_serves_every_endpoint(gap: AirGap) -> None:
    data, _ = gap.make(None)
    for start in range(4):
        directory = gap.endpoint(start)
        done = gap.apply(directory, data)
        assert (done.release, done.way, contents(directory)) == (4, "full", FOURTH)


def test_a_pack_is_exactly_what_a_client_would_have_fetched(gap: AirGap, good: bytes) -> None:
    """Every part of the pack is asked for by the endpoint it was made for, and nothing that is not in it."""
    pack = opened(good)
    for path, data in pack.parts.items():
        assert gap.publisher.files[path] == data
    assert gap.publisher.files[pack.content] == good[pack.start :]
    kinds = [path.split("/")[0] for path in pack.parts]
    assert kinds.count("log") == 3  # 257 entries, of which 255 were seen: a full tile and both edges
    assert kinds.count("manifests") == 1
    assert pack.roots == ["metadata/2.root.json"]


def parts_of(data: bytes) -> Iterator[tuple[int, str, bytes]]:
    for index, (path, part) in enumerate(opened(data).parts.items()):
        yield index, path, part


def test_every_part_that_is_not_as_it_was_is_refused_and_the_old_set_stands(gap: AirGap, good: bytes) -> None:
    """Flipped, cut, grown, emptied, swapped with another part, from an older release, missing."""
    directory = gap.endpoint(2)
    before = contents(directory)
    pieces = list(parts_of(good))
    bad: list[tuple[str, bytes]] = []
    for index, path, data in pieces:
        others = {
            "flipped": data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
            "cut": data[:-1],
            "grown": data + b"}",
            "empty": b"",
            "as another": pieces[index - 1][2],
        }
        for how, value in others.items():
            bad.append((f"{path} {how}", rebuilt(good, lambda parts: _with(parts, index, value))))  # noqa: B023  called at once
        if not path.startswith(("metadata/timestamp", "metadata/7")):
            try:
                bad.append((f"{path} missing", rebuilt(good, lambda parts: parts[:index] + parts[index + 1 :])))  # noqa: B023
            except MalformedError:
                continue  # such a pack cannot even be written
    content = opened(good).start
    bad += [
        (f"content {at}", good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :]) for at in range(content, len(good), 97)
    ]
    accepted = []
    for what, data in bad:
        # A fresh look each time: what an earlier bad pack left in the metadata must not be what refuses the next.
        directory = gap.endpoint(2)
        error = refusal(gap, directory, data)
        if error is None:
            accepted.append(what)
        else:
            assert "release 2 stays in use" in error.kept
            assert error.todo
        assert contents(directory) == before or what in accepted
        # From the pinned root on, with no memory of its own, the auditor misses nothing but what is missing.
        assert gap.audit(data).error is not None or what.endswith("missing"), what
    # The root did not change but in number, so a pack that holds it back is what a server that holds it back is: no lie.
    # And what the endpoint holds already, as signed, it does not ask for.
    lawful = {"metadata/2.root.json missing"}
    assert {what for what in accepted if not what.startswith("metadata/1.targets.json ")} == lawful


def test_tiles_of_another_tree_are_found_out(gap: AirGap, good: bytes) -> None:
    """Narrower, wider, beyond the end: no endpoint would ask for them, and the auditor says so."""
    tiles = [path for path in opened(good).parts if path.startswith("log/")]
    edge = next(path for path in tiles if path.endswith(".p/1") and "/0/" in path)
    for other in (edge.replace(".p/1", ".p/2"), edge.replace(".p/1", ""), edge.replace("001.p/1", "007.p/1")):
        bad = rebuilt(
            good,
            lambda parts: [(other if path == edge else path, data) for path, data in parts],  # noqa: B023  called at once
        )
        assert gap.audit(bad).error is not None
        directory = gap.endpoint(2)
        assert refusal(gap, directory, bad) is not None


def refusal(gap: AirGap, directory: ClientDirectory, data: bytes) -> ColdchainError | None:
    try:
        gap.apply(directory, data)
    except (VerificationError, EvidenceError, ResponseError) as error:
        return error
    return None


def _with(parts: list[tuple[str, bytes]], index: int, value: bytes) -> list[tuple[str, bytes]]:
    return [(path, value if i == index else data) for i, (path, data) in enumerate(parts)]


def test_every_bit_of_the_file_counts(gap: AirGap, good: bytes) -> None:
    directory = gap.endpoint(2)
    before = contents(directory)
    for at in range(0, opened(good).start, 101):
        with pytest.raises(ColdchainError) as found:
            gap.apply(directory, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert "stays in use" in found.value.kept
        assert contents(directory) == before


def test_a_pack_for_others_is_refused_in_plain_words(gap: AirGap, good: bytes) -> None:
    directory = gap.endpoint(2)
    with pytest.raises(UsageError, match="for jp stable, and this endpoint follows us stable"):
        gap.apply(directory, gap.make(2, region="jp")[0])
    for at in (0, 1, 3):
        directory = gap.endpoint(at)
        before = contents(directory)
        has = f"has release {at}" if at else "has nothing yet"
        with pytest.raises(
            ResponseError, match=f"made for an endpoint that has release 2, and this one {has}"
        ) as found:
            gap.apply(directory, good)
        assert (f"--from {at}" in found.value.todo) is (at > 0)
        assert "coldchain pack" in found.value.todo
        assert contents(directory) == before


def test_a_pack_under_another_regions_name_is_refused(gap: AirGap) -> None:
    """The names lie, so that the plain words are passed; the signatures do not."""
    jp = gap.make(2, region="jp")[0]
    pack = opened(jp)

    def us(path: str) -> str:
        return path.replace("/jp/", "/us/").replace(".jp.", ".us.")

    content = jp[pack.start :]
    lie = encode_head([(us(path), data) for path, data in pack.parts.items()], us(pack.content), len(content)) + content
    directory = gap.endpoint(2)
    before = contents(directory)
    with pytest.raises(VerificationError):
        gap.apply(directory, lie)
    assert contents(directory) == before
    assert gap.audit(lie).error is not None


def test_an_older_pack_is_a_rollback(gap: AirGap, good: bytes) -> None:
    directory = gap.endpoint(2)
    assert gap.apply(directory, good).release == 4
    gap.publisher.publish(5, FIRST)
    tree = gap.publisher.write(gap.folder / "later")
    asyncio.run(run(directory, str(tree)))
    with pytest.raises(RollbackError) as found:
        gap.apply(directory, good)
    assert contents(directory) == FIRST
    assert "pack" in found.value.todo


def test_an_old_pack_is_genuine_and_no_update_takes_it(gap: AirGap, good: bytes) -> None:
    late = gap.now + timedelta(days=3)
    found = gap.audit(good, late)
    assert found.genuine
    assert isinstance(found.error, ExpiredError)
    assert all(check.ok for check in found.checks)
    assert any("the newest cosignature is 3 days old" in note for note in found.notes)
    assert any("EXPIRED 2 days ago" in note for note in found.notes)
    directory = gap.endpoint(2)
    before = contents(directory)
    with pytest.raises(ExpiredError) as refused:
        gap.apply(directory, good, now=lambda: late)
    assert "the pack is too old" in refused.value.todo
    assert contents(directory) == before


def test_a_held_release_stays_held(gap: AirGap, tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "publisher", log=MemoryLog())
    publisher.publish(1, FIRST)
    directory = publisher.client(tmp_path / "endpoint", str(tmp_path / "tree"))
    publisher.write(tmp_path / "tree")
    asyncio.run(run(directory))
    publisher.publish(2, SECOND, share=0)
    publisher.write(tmp_path / "tree")
    path = tmp_path / "held.pack"
    asyncio.run(
        make_pack(str(tmp_path / "tree"), publisher.repository.pinned, path, Wanted("us", start=1), publisher.now)
    )
    with pytest.raises(HeldError):
        asyncio.run(update(directory, Settings(pack=path)))
    assert contents(directory) == FIRST


def test_a_damaged_old_file_needs_the_full_bundle(gap: AirGap, good: bytes) -> None:
    """The delta does not apply; the pack has nothing else; a full pack repairs."""
    directory = gap.endpoint(2)
    section = directory.current.resolve() / "daily.hsb"
    data = section.read_bytes()
    section.unlink()
    section.write_bytes(data[:-2] + b"7\n")
    before = contents(directory)
    with pytest.raises(ResponseError) as found:
        gap.apply(directory, good)
    assert "coldchain pack" in found.value.todo
    assert contents(directory) == before
    assert gap.apply(directory, gap.make(None)[0]).release == 4
    assert contents(directory) == FOURTH


def test_the_maker_refuses_what_it_cannot_stand_for(gap: AirGap) -> None:
    tree = gap.folder / "broken"
    names = [path for path in opened(gap.make(2)[0]).parts if not path.endswith("root.json")]
    for path in names:
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(gap.tree, tree)
        data = (tree / path).read_bytes()
        (tree / path).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        output = gap.folder / "never.pack"
        with pytest.raises((VerificationError, EvidenceError, NotPublishedError)):
            asyncio.run(make_pack(str(tree), gap.pinned, output, Wanted("us", start=2), gap.now))
        assert not output.exists()
        assert not list(gap.folder.glob(".never*"))
    for start in (4, 5):
        with pytest.raises(UsageError, match="is the newest"):
            gap.make(start)
    for region in ("nowhere", "kr"):
        with pytest.raises(ColdchainError):
            gap.make(None, region=region)


def test_every_old_size_of_the_log_is_served(tmp_path: Path) -> None:
    """Over the border of a tile and around it, whatever the log's size: the tiles in the pack are the ones that are needed."""
    for extra in (0, 1, 253, 254, 255, 256, 511, 600):
        folder = tmp_path / str(extra)
        log = MemoryLog()
        publisher = Publisher(folder / "publisher", regions=("us",), log=log)
        publisher.publish(1, FIRST)
        tree = publisher.write(folder / "tree")
        directory = publisher.client(folder / "endpoint", str(tree))
        asyncio.run(run(directory))
        log.append(*(f"entry {n}".encode() for n in range(extra)))
        publisher.publish(2, SECOND)
        publisher.write(tree)
        path = folder / "a.pack"
        asyncio.run(make_pack(str(tree), publisher.repository.pinned, path, Wanted("us", start=1), publisher.now))
        assert asyncio.run(update(directory, Settings(pack=path))).release == 2


def test_the_cost_over_the_delta(gap: AirGap) -> None:
    """Beside tiles, which are as long as the log's last 256 entries make them."""
    _, made = gap.make(3)
    assert made.overhead - made.tiles < 4096
