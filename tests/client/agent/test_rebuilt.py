"""A customer who asks for rebuilders: no release without their signed word, which is kept and shown, and can be checked offline."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from nacl.signing import SigningKey

from coldchain.agent.make_pack import Wanted, make_pack
from coldchain.agent.pack_source import open_pack_file
from coldchain.attestation import Rebuild, bundles_of, file_name, published_path, sign_statement
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.bundle.pack import encode_head, read_pack
from coldchain.errors import DamagedError, EvidenceError, HeldError, TransportError
from coldchain.install import public_log
from coldchain.install.audit import audit
from coldchain.install.directory import ClientDirectory
from coldchain.keys import PublicKey
from coldchain.pack_audit import audit_pack
from tests.client.agent.publisher import FIRST, SECOND, THIRD, Edge, Publisher, run, serving
from tests.client.agent.world import contents
from tests.client.tlog.memory_log import MemoryLog

SIGNERS = [SigningKey(bytes([number]) * 32) for number in range(1, 4)]
KEYS = [PublicKey(bytes(signer.verify_key)) for signer in SIGNERS]
NAMES = ("alice", "bob", "carol")


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "publisher", log=MemoryLog())
    made.publish(1, FIRST)
    return made


def manifest_of(publisher: Publisher) -> Manifest:
    return parse_manifest(publisher.manifest())


def attestation(manifest: Manifest, number: int, *regions: str) -> bytes:
    bundles = bundles_of(manifest)
    made = Rebuild(
        manifest.product,
        manifest.channel,
        manifest.release,
        manifest.digest,
        {name: bundles[name] for name in regions or bundles},
        "0.1.0",
        "5c" * 32,
        "2026-06-01T10:00:00Z",
        KEYS[number],
    )
    return sign_statement(made.statement(), KEYS[number], lambda data: SIGNERS[number].sign(data).signature).encode()


def attest(publisher: Publisher, *numbers: int) -> None:
    """These rebuilders publish good attestations of the newest release."""
    manifest = manifest_of(publisher)
    for number in numbers:
        publisher.files[published_path(manifest.digest, KEYS[number])] = attestation(manifest, number)


def asking(publisher: Publisher, path: Path, needed: int, urls: Sequence[str], region: str = "us") -> ClientDirectory:
    """An endpoint with a policy of its own."""
    directory = publisher.client(path, *urls, region=region)
    change_policy(publisher, directory, needed)
    return directory


def change_policy(publisher: Publisher, directory: ClientDirectory, needed: int) -> None:
    assert publisher.log is not None
    lines = [f"# coldchain: rebuilder {name} {key.raw.hex()}" for name, key in zip(NAMES, KEYS, strict=True)]
    lines += [f"# coldchain: rebuilders {needed}"] if needed else []
    policy = publisher.log.policy + "".join(f"{line}\n" for line in (lines if needed else ()))
    with directory.locked():
        directory.write_config(replace(directory.config(), policy=public_log.keep_policy(directory, policy.encode())))


async def update(publisher: Publisher, directory: ClientDirectory) -> int:
    publisher.write(Path(directory.config().urls[0]))
    return (await run(directory)).release


def shown(directory: ClientDirectory) -> str | None:
    """What ``coldchain verify`` says of rebuilders, once all is in order."""
    found = audit(directory, datetime.now(UTC))
    assert found.error is None
    return next((check.detail for check in found.checks if check.name == "rebuilt"), None)


@pytest.mark.parametrize("needed", [1, 2, 3])
async def test_as_many_as_are_asked_for(publisher: Publisher, tmp_path: Path, needed: int) -> None:
    endpoint = asking(publisher, tmp_path / "endpoint", needed, [str(tmp_path / "tree")])
    for release, content in enumerate((FIRST, SECOND), 1):
        if release > 1:
            publisher.publish(release, content)
        before = contents(endpoint)
        for there in range(needed):
            attest(publisher, *range(there))
            with pytest.raises(EvidenceError, match=f"rebuilt by {there} of {needed}") as refused:
                await update(publisher, endpoint)
            assert refused.value.exit_code == 16
            for number, name in enumerate(NAMES):
                assert (f"{name}: no attestation" in refused.value.what) is (number >= there)
            assert contents(endpoint) == before
        attest(publisher, *range(needed))
        assert await update(publisher, endpoint) == release
        assert contents(endpoint) == content
        said = shown(endpoint)
        assert said is not None
        assert all(name in said for name in NAMES[:needed])
        assert f"; {needed} needed" in said


async def test_nothing_is_fetched_for_who_asks_for_none(publisher: Publisher, tmp_path: Path) -> None:
    edge = Edge(publisher.files)
    async with serving(edge) as url:
        endpoint = publisher.client(tmp_path / "endpoint", url)
        assert (await run(endpoint)).release == 1
    assert not [path for path in edge.paths if path.startswith("attestations/")]
    assert shown(endpoint) is None


async def test_bad_attestations_do_not_count(publisher: Publisher, tmp_path: Path) -> None:
    endpoint = asking(publisher, tmp_path / "endpoint", 1, [str(tmp_path / "tree")])
    old = manifest_of(publisher)
    publisher.publish(2, SECOND)
    new = manifest_of(publisher)
    path = published_path(new.digest, KEYS[0])
    for bad, words in (
        (attestation(new, 1), "alice: attestation: no signature of a known key"),
        (attestation(old, 0), "alice: it is about another manifest than that of release 2"),
        (attestation(new, 0, "jp"), "alice: the bundle of region us was not rebuilt"),
        (attestation(new, 0)[:-1], "alice: attestation: not JSON"),
    ):
        publisher.files[path] = bad
        with pytest.raises(EvidenceError, match="rebuilt by 0 of 1") as refused:
            await update(publisher, endpoint)
        assert words in refused.value.what
        assert contents(endpoint) == {}
    publisher.files[path] = attestation(new, 0, "us")
    assert await update(publisher, endpoint) == 2


async def test_a_good_one_of_any_source_will_do(publisher: Publisher, tmp_path: Path) -> None:
    """One source lies about it, one does not have it, one does; and one that answers nothing is no reason to refuse."""
    attest(publisher, 0)
    manifest = manifest_of(publisher)
    path = published_path(manifest.digest, KEYS[0])
    good = dict(publisher.files)

    def lie(request: web.Request, data: bytes) -> bytes | None:
        return attestation(manifest, 1) if "/attestations/" in request.path else None

    def fail(request: web.Request, data: bytes) -> web.StreamResponse | None:
        return web.Response(status=500) if "/attestations/" in request.path else None

    without = {name: data for name, data in good.items() if name != path}
    async with (
        serving(Edge(good, lie)) as liar,
        serving(Edge(without)) as poor,
        serving(Edge(good, fail)) as broken,
        serving(Edge(good)) as honest,
    ):
        for number, others in enumerate(([liar], [poor], [broken], [liar, poor, broken])):
            endpoint = asking(publisher, tmp_path / f"endpoint-{number}", 1, [*others, honest])
            assert (await run(endpoint)).release == 1
        for number, others in enumerate(([liar], [poor], [poor, broken])):
            endpoint = asking(publisher, tmp_path / f"refusing-{number}", 1, others)
            with pytest.raises(EvidenceError):
                await run(endpoint)
        endpoint = asking(publisher, tmp_path / "unreachable", 1, [broken])
        with pytest.raises(TransportError):
            await run(endpoint)


async def test_what_was_verified_is_kept_and_checked_again_offline(publisher: Publisher, tmp_path: Path) -> None:
    endpoint = asking(publisher, tmp_path / "endpoint", 2, [str(tmp_path / "tree")])
    attest(publisher, 0, 1, 2)
    await update(publisher, endpoint)
    kept = sorted(path.name for path in (endpoint.signed / endpoint.current.readlink().name).glob("*.dsse.json"))
    assert kept == sorted(file_name(key) for key in KEYS)
    for path in list(publisher.files):
        if path.startswith("attestations/"):
            del publisher.files[path]
    (tmp_path / "tree" / "attestations").rename(tmp_path / "gone")
    assert await update(publisher, endpoint) == 1, "nothing new: what is kept is enough"
    said = shown(endpoint)
    assert said is not None
    assert "carol" in said
    folder = endpoint.signed / endpoint.current.readlink().name
    for name in kept[:2]:
        (folder / name).chmod(0o644)
        (folder / name).write_bytes(b"{}")
    found = audit(endpoint, datetime.now(UTC))
    assert isinstance(found.error, DamagedError)
    assert "rebuilt by 1 of 2 needed" in found.error.what
    with pytest.raises(EvidenceError, match="of 2 needed"):
        await update(publisher, endpoint)  # it notices too, and they cannot be had again
    (tmp_path / "gone").rename(tmp_path / "tree" / "attestations")
    assert await update(publisher, endpoint) == 1
    assert shown(endpoint) == said


async def test_who_begins_to_ask_gets_them_for_what_is_installed(publisher: Publisher, tmp_path: Path) -> None:
    endpoint = asking(publisher, tmp_path / "endpoint", 0, [str(tmp_path / "tree")])
    assert await update(publisher, endpoint) == 1
    change_policy(publisher, endpoint, 1)
    with pytest.raises(EvidenceError, match="rebuilt by 0 of 1"):
        await update(publisher, endpoint)
    assert contents(endpoint) == FIRST, "what runs keeps running"
    attest(publisher, 2)
    assert await update(publisher, endpoint) == 1
    said = shown(endpoint)
    assert said is not None
    assert "carol" in said


async def test_the_root_can_ask_for_them_too(tmp_path: Path) -> None:
    class Asking(MemoryLog):
        @property
        def policy(self) -> str:
            return super().policy + f"# coldchain: rebuilder alice {KEYS[0].raw.hex()}\n# coldchain: rebuilders 1\n"

    publisher = Publisher(tmp_path / "publisher", log=Asking())
    publisher.publish(1, THIRD)
    endpoint = publisher.client(tmp_path / "endpoint", str(tmp_path / "tree"))
    with pytest.raises(EvidenceError, match="alice: no attestation"):
        await update(publisher, endpoint)
    attest(publisher, 0)
    assert await update(publisher, endpoint) == 1


async def test_a_manifest_is_the_one_that_the_role_signs(publisher: Publisher) -> None:
    """The attestation's place is by the manifest's digest as published, so one place has one meaning."""
    data = publisher.manifest()
    assert manifest_of(publisher).digest == hashlib.sha256(data).hexdigest()


async def test_a_pack_brings_the_attestations_over_the_air_gap(publisher: Publisher, tmp_path: Path) -> None:
    """Made where the network is, with the customer's policy; refused where one was taken out of it."""
    tree = publisher.folder / "tree"
    attest(publisher, 0, 2)
    publisher.write(tree)
    directory = asking(publisher, tmp_path / "endpoint", 2, [str(tree)])
    await run(directory)
    publisher.publish(2, SECOND)
    policy = (directory.path / "policy").read_bytes()
    wanted = Wanted("us", start=1, policy=policy)
    now = datetime.now(UTC)
    publisher.write(tree)
    with pytest.raises(EvidenceError, match="alice: no attestation"):
        await make_pack(str(tree), publisher.repository.pinned, tmp_path / "too-early.pack", wanted, now)
    attest(publisher, 0, 1)
    publisher.write(tree)
    pack = tmp_path / "good.pack"
    await make_pack(str(tree), publisher.repository.pinned, pack, wanted, now)
    with open_pack_file(pack) as (file, size):
        head = read_pack(file, size)
        assert set(head.attestations) == {file_name(KEYS[0]), file_name(KEYS[1])}
        found = audit_pack(head, file, publisher.repository.pinned, now, policy=policy)
        (said,) = [check.detail for check in found.checks if check.name == "rebuilt"]
        assert said.startswith("bit for bit by alice")
        content = pack.read_bytes()[head.start :]
    for left_out in head.attestations:
        parts = [(path, data) for path, data in head.parts.items() if not path.endswith(left_out)]
        poorer = tmp_path / f"{left_out[:8]}.pack"
        poorer.write_bytes(encode_head(parts, head.content, head.length) + content)
        with pytest.raises(EvidenceError, match="no attestation"):
            await run(directory, pack=poorer)
        assert contents(directory) == FIRST
    assert (await run(directory, pack=pack)).release == 2
    assert contents(directory) == SECOND
    assert audit(directory, now).error is None


async def test_a_damaged_release_is_not_restored_from_evidence_that_is_no_longer_enough(
    publisher: Publisher, tmp_path: Path
) -> None:
    """The newer release is held, the installed one is damaged, and the customer asks for rebuilders by now."""
    tree = publisher.folder / "tree"
    publisher.write(tree)
    directory = asking(publisher, tmp_path / "endpoint", 0, [str(tree)])
    await run(directory)
    publisher.publish(2, SECOND, share=0)
    publisher.write(tree)
    section = directory.current / "daily.hsb"
    section.chmod(0o644)
    section.write_bytes(b"damaged")
    change_policy(publisher, directory, 1)
    with pytest.raises(EvidenceError, match="no attestation"):
        await run(directory)
    assert section.read_bytes() == b"damaged"
    change_policy(publisher, directory, 0)
    with pytest.raises(HeldError, match="is repaired"):
        await run(directory)
    assert contents(directory) == FIRST
