"""No release without good evidence: what is missing or wrong in it is refused with a code of its own, and what runs keeps running."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from coldchain.errors import DamagedError, EvidenceError
from coldchain.install import public_log
from coldchain.install.audit import audit
from coldchain.install.directory import ClientDirectory
from coldchain.limits import LIMITS
from coldchain.verify import PROOF
from tests.client.agent.publisher import FIRST, SECOND, THIRD, Edge, Publisher, run, serving
from tests.client.agent.world import contents
from tests.client.tlog.memory_log import MemoryLog
from tests.client.tuf.repository import digest

RELEASES = [FIRST, SECOND, THIRD]


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "publisher", log=MemoryLog())
    made.publish(1, FIRST)
    return made


@pytest.fixture
async def endpoint(publisher: Publisher, tmp_path: Path) -> ClientDirectory:
    """An endpoint that holds release 1 and follows the tree on the disk."""
    directory = publisher.client(tmp_path / "endpoint", str(tmp_path / "tree"))
    await update(publisher, directory)
    return directory


async def update(publisher: Publisher, directory: ClientDirectory) -> int:
    tree = Path(directory.config().urls[0])
    publisher.write(tree)
    return (await run(directory)).release


async def refused(
    publisher: Publisher, directory: ClientDirectory, words: str | None = None, *, grown: bool = False
) -> EvidenceError:
    """Refused for its evidence: the set stays, and the checkpoint that was believed unless the log has rightly grown."""
    before, seen = contents(directory), (directory.metadata / "checkpoint").read_bytes()
    with pytest.raises(EvidenceError, match=words) as found:
        await update(publisher, directory)
    assert contents(directory) == before
    assert ((directory.metadata / "checkpoint").read_bytes() == seen) is not grown
    assert found.value.exit_code == 16
    assert "stays in use" in found.value.kept
    assert found.value.todo
    return found.value


def resign(publisher: Publisher, proof: bytes | None, manifest: bytes | None = None) -> None:
    """The region role names this proof (None: none) and, if given, this manifest; everything well signed."""
    document = publisher.repository.documents["us"]
    for name, data in ((PROOF, proof), ("manifest.json", manifest)):
        if data is not None:
            document["targets"][f"us/stable/{name}"] = {"length": len(data), "hashes": {"sha256": digest(data)}}
            publisher.files[publisher.path(data, name)] = data
        elif name == PROOF:
            document["targets"].pop(f"us/stable/{name}", None)
    if manifest is not None:
        document["coldchain"]["channels"]["stable"]["manifest"] = digest(manifest)
    publisher.repository.publish("us")


def log_of(publisher: Publisher) -> MemoryLog:
    assert publisher.log is not None
    return publisher.log


async def test_releases_in_the_log_are_applied_and_what_was_verified_is_kept(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    for number, content in enumerate(RELEASES[1:], 2):
        publisher.publish(number, content)
        assert await update(publisher, endpoint) == number
        assert contents(endpoint) == content
        kept = (endpoint.metadata / "checkpoint").read_bytes()
        assert kept == log_of(publisher).note(at=publisher.now).encode()
        found = audit(endpoint, datetime.now(UTC))
        assert found.error is None
        (said,) = [check.detail for check in found.checks if check.name == "public log"]
        assert f"entry {number - 1} of log.example/test, under its root at {number} entries" in said
        assert "cosigned by w0 (" in said


async def test_a_release_without_a_proof_is_refused(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.publish(2, SECOND)
    good = publisher.files[publisher.target(PROOF)]
    resign(publisher, None)
    await refused(publisher, endpoint, "comes without a proof that the public log holds it")
    resign(publisher, good)
    assert await update(publisher, endpoint) == 2


async def test_the_proof_of_another_entry_is_refused(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.publish(2, SECOND)
    log = log_of(publisher)
    for index in (0,):
        resign(publisher, log.proof(index, at=publisher.now))
        await refused(publisher, endpoint, "is not under this root")


@pytest.mark.parametrize("cosigned", [0, 1])
async def test_no_quorum_no_release(publisher: Publisher, endpoint: ClientDirectory, cosigned: int) -> None:
    publisher.publish(2, SECOND)
    resign(publisher, log_of(publisher).proof(1, cosigned, at=publisher.now))
    error = await refused(publisher, endpoint, "no quorum of witnesses")
    assert "w1" in error.what
    assert ("w0" in error.what) is (cosigned == 0)


async def test_cosignatures_from_the_future_do_not_count(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.publish(2, SECOND)
    resign(publisher, log_of(publisher).proof(1, at=publisher.now + timedelta(days=3)))
    await refused(publisher, endpoint, "clock has not reached")


async def test_another_logs_proof_is_refused(publisher: Publisher, endpoint: ClientDirectory) -> None:
    """A log with other keys, with the same name and with another one."""
    publisher.publish(2, SECOND)
    manifest = publisher.files[publisher.target("manifest.json")]
    for origin, words in (("log.example/other", "not a log that is known here"), ("log.example/test", None)):
        other = MemoryLog(origin)
        if not words:
            other.key = replace(other.key, private=MemoryLog("x").key.private)
        other.append(b"a", manifest)
        resign(publisher, other.proof(1, at=publisher.now))
        await refused(publisher, endpoint, words)


async def test_every_byte_of_the_proof_counts(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.publish(2, SECOND)
    good = publisher.files[publisher.target(PROOF)]
    text_end = good.index(b"\n\n", good.index(b"\n\n") + 2)
    for at in [*range(0, text_end, 7), *range(text_end, len(good), 41)]:
        resign(publisher, good[:at] + bytes([good[at] ^ 0x04]) + good[at + 1 :])
        await refused(publisher, endpoint)
    resign(publisher, good)
    assert await update(publisher, endpoint) == 2


async def test_a_log_that_tells_two_stories_is_caught_and_both_are_kept_as_proof(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """The second story has the same keys, the same witnesses (all coerced) and another first entry."""
    publisher.publish(2, SECOND)
    honest = publisher.files[publisher.target(PROOF)]
    manifest = publisher.files[publisher.target("manifest.json")]
    for entries in ([b"special", manifest], [manifest], [b"special", b"more", b"and more", manifest]):
        fork = MemoryLog()
        fork.append(*entries)
        saved = {path: data for path, data in publisher.files.items() if path.startswith("log/")}
        publisher.files.update({f"log/{path}": data for path, data in fork.files.items()})
        resign(publisher, fork.proof(len(entries) - 1, at=publisher.now))
        error = await refused(publisher, endpoint, "two different stories")
        kept = (endpoint.metadata / "fork.txt").read_bytes()
        assert str(endpoint.metadata / "fork.txt") in error.todo
        assert (endpoint.metadata / "checkpoint").read_bytes() in kept
        assert fork.note(at=publisher.now).encode() in kept
        publisher.files.update(saved)
    resign(publisher, honest)
    assert await update(publisher, endpoint) == 2


async def test_tiles_that_lie_are_no_proof_of_anything(
    publisher: Publisher, endpoint: ClientDirectory, tmp_path: Path
) -> None:
    """One source lies about tiles: refused from it alone, applied when another one has them."""
    for number, content in enumerate(RELEASES[1:], 2):
        publisher.publish(number, content)
        good = publisher.write(tmp_path / "good")
        told: list[Callable[[bytes], bytes]] = [lambda data: data[::-1], lambda data: data[:-1], lambda _: b""]

        def lie(request: web.Request, data: bytes) -> bytes:
            return told[-1](data) if "/tile/" in request.path else data  # noqa: B023  the newest lie, on purpose

        async with serving(Edge(publisher.files, lie)) as url:
            while True:
                before = contents(endpoint)
                with pytest.raises(EvidenceError):
                    await run(endpoint, url)
                assert contents(endpoint) == before
                assert not (endpoint.metadata / "fork.txt").exists()
                if len(told) == 1:
                    break
                told.pop()
            assert (await run(endpoint, url, str(good))).release == number


async def test_skipped_releases_are_walked_back_to_the_installed_one(
    publisher: Publisher, endpoint: ClientDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = range(2, 6)
    for number in numbers:
        publisher.publish(number, RELEASES[number % 3])
    between = {digest(data): path for path, data in publisher.files.items() if path.startswith("manifests/")}
    tree = Path(endpoint.config().urls[0])
    publisher.write(tree)
    middle = publisher.files[publisher.target("manifest.json")]
    path = tree / f"manifests/{_previous(middle)}.json"
    assert path.relative_to(tree).as_posix() in between.values()
    data = path.read_bytes()
    for bad in (None, data[:-1], data.replace(b'"release":4', b'"release":3')):
        path.unlink(missing_ok=True)
        if bad is not None:
            path.write_bytes(bad)
        with pytest.raises(EvidenceError, match="an earlier release is not there"):
            await run(endpoint)
    path.write_bytes(data)
    assert (await run(endpoint)).release == 5


def _previous(manifest: bytes) -> str:
    import json

    found: str = json.loads(manifest)["previous"]
    return found


@pytest.mark.parametrize("previous", ["none", "another"])
async def test_a_release_that_does_not_follow_the_installed_one_is_refused(
    publisher: Publisher, endpoint: ClientDirectory, previous: str
) -> None:
    """Everything is signed, logged and cosigned; only the history it claims is another one."""
    publisher.previous = None if previous == "none" else "ab" * 32
    publisher.publish(2, SECOND)
    await refused(publisher, endpoint, "names another release 1 before it", grown=True)


async def test_over_very_many_releases_the_chain_is_not_walked(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.previous = "ab" * 32
    publisher.publish(2 + LIMITS.chain_walk, SECOND)
    assert await update(publisher, endpoint) == 2 + LIMITS.chain_walk


async def test_the_customers_own_policy_counts_and_not_the_roots(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """Stricter: a witness that has not signed is asked for. Then the file is damaged. Then it is as lax as the root's."""
    publisher.publish(2, SECOND)
    log = log_of(publisher)
    third = MemoryLog(witnesses=("wit.example/three",)).keys[0]
    strict = log.policy.replace(
        "quorum all-of-us", f"witness w9 {third.public.vkey}\ngroup both all all-of-us w9\nquorum both"
    )
    for text, words in ((strict, "no quorum of witnesses"), (log.policy, "")):
        with endpoint.locked():
            named = public_log.keep_policy(endpoint, text.encode())
            endpoint.write_config(replace(endpoint.config(), policy=named))
        if words:
            await refused(publisher, endpoint, words)
            (endpoint.path / "policy").write_bytes(log.policy.encode())
            with pytest.raises(DamagedError, match="the log policy in"):
                await update(publisher, endpoint)
    assert await update(publisher, endpoint) == 2


async def test_a_root_that_no_longer_names_a_log_frees_nobody(publisher: Publisher, endpoint: ClientDirectory) -> None:
    del publisher.repository.root["coldchain"]
    publisher.repository.publish_root()
    publisher.publish(2, SECOND)
    await refused(publisher, endpoint, "names no public log")


async def test_the_first_checkpoint_is_believed_and_a_lost_one_is_the_first_again(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    kept = endpoint.metadata / "checkpoint"
    for damage in (None, b"", b"rubbish"):
        kept.unlink(missing_ok=True)
        if damage is not None:
            kept.write_bytes(damage)
        number = len(publisher.releases["us"]) + 1
        publisher.publish(number, RELEASES[number % 3])
        assert await update(publisher, endpoint) == number
        assert kept.read_bytes() == log_of(publisher).note(at=publisher.now).encode()


async def test_the_evidence_is_checked_again_offline(publisher: Publisher, endpoint: ClientDirectory) -> None:
    (link,) = [one for one in endpoint.signed.iterdir() if not one.name.startswith(".")]
    proof = link / PROOF
    good = proof.read_bytes()
    assert hashlib.sha256(good).hexdigest() in publisher.target(PROOF)
    for bad in (None, good[:-2], good.replace(b"index 0", b"index 1")):
        proof.unlink()
        if bad is not None:
            proof.write_bytes(bad)
        found = audit(endpoint, datetime.now(UTC))
        assert isinstance(found.error, DamagedError)
        assert [check.name for check in found.checks if not check.ok] == ["public log"]
        proof.write_bytes(good)
    assert audit(endpoint, datetime.now(UTC)).error is None
