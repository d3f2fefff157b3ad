"""Publishing what rebuilders attest: only good attestations of logged releases, and in the log as entries of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from nacl.signing import SigningKey

from coldchain.attestation import GLOBAL, Rebuild, bundles_of, is_envelope, open_rebuild, published_path, sign_statement
from coldchain.bundle.manifest import Manifest
from coldchain.errors import EvidenceError, StateError, UsageError
from coldchain.keys import PublicKey
from coldchain.tlog.note import SignedNote
from coldchain_server.home import Home
from coldchain_server.log.http_witnesses import HttpWitnesses
from coldchain_server.log.public_log import PublicLog
from coldchain_server.release.attest import Attested, attest
from coldchain_server.release.log import Witnesses
from coldchain_server.signing.log_policy import policy_of
from coldchain_server.signing.roles import load_state
from tests.client.tuf.repository import NOW
from tests.server import origins

SIGNERS = [SigningKey(bytes([number]) * 32) for number in range(1, 3)]
KEYS = [PublicKey(bytes(signer.verify_key)) for signer in SIGNERS]


def attestation(about: Manifest, number: int = 0, **changes: Any) -> bytes:
    made = Rebuild(
        about.product,
        about.channel,
        about.release,
        about.digest,
        bundles_of(about),
        "0.1.0",
        "5c" * 32,
        "2026-06-01T10:00:00Z",
        KEYS[number],
    )
    statement = replace(made, **changes).statement()
    return sign_statement(statement, KEYS[number], lambda data: SIGNERS[number].sign(data).signature).encode()


async def attested(home: Home, data: bytes, number: int = 1, log: Witnesses | None = None) -> Attested:
    async with home.catalogue() as catalogue:
        with_log = (origins.keyring(home), log) if log else None
        return await attest(home, catalogue, "stable", number, data, now=NOW, log=with_log)


def published(home: Home) -> dict[str, bytes]:
    folder = home.public / "attestations"
    return {str(path.relative_to(home.public)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def log_size(home: Home) -> int:
    log = PublicLog(home.storage, policy_of(await load_state(home.storage)).log_keys[0])
    return (await log.checkpoint()).size


async def entries(home: Home) -> list[bytes]:
    log = PublicLog(home.storage, policy_of(await load_state(home.storage)).log_keys[0])
    return (await log.last_entries(await log.checkpoint()))[1]


async def test_each_rebuilder_has_one_place_beside_the_release(published_home: Home) -> None:
    home = published_home
    manifest = origins.read(home, "us").manifest
    expected: dict[str, bytes] = {}
    for number in (0, 1, 0):
        data = attestation(manifest, number, rebuilt=f"2026-06-0{len(expected) + 1}T10:00:00Z")
        found = await attested(home, data)
        assert found.path == published_path(manifest.digest, KEYS[number])
        assert (found.rebuild, found.left_out, found.index) == (open_rebuild(data), (), None)
        expected[found.path] = data
        assert published(home) == expected
    assert await log_size(home) == 1


async def test_a_part_says_what_it_leaves_out(published_home: Home) -> None:
    manifest = origins.read(published_home, "us").manifest
    some = {"us": manifest.regions["us"].facts.bundle}
    assert (await attested(published_home, attestation(manifest, bundles=some))).left_out == (GLOBAL, "jp")


async def test_what_is_no_good_attestation_of_this_release_is_not_published(published_home: Home) -> None:
    home = published_home
    manifest = origins.read(home, "us").manifest
    await origins.build_release(home, origins.SECOND)
    good = attestation(manifest)
    for bad in (
        b"",
        good[:-1],
        good + b"\n",
        good.replace(b'"sig":"', b'"sig":"A', 1)[:-5] + good[-4:],
        attestation(manifest, release=2),
        attestation(manifest, manifest="5c" * 32),
        attestation(manifest, bundles=bundles_of(manifest) | {"us": "5c" * 32}),
        attestation(manifest, bundles=bundles_of(manifest) | {"kr": "5c" * 32}),
    ):
        with pytest.raises(UsageError, match="no good attestation of release 1") as refused:
            await attested(home, bad, log=HttpWitnesses())
        assert refused.value.kept == "nothing was published"
    with pytest.raises(UsageError, match="no good attestation of release 2"):
        await attested(home, good, 2)
    assert published(home) == {}
    assert await log_size(home) == 2


async def test_only_what_is_public_can_be_attested(published_home: Home) -> None:
    home = published_home
    built = await origins.only_build(home, origins.SECOND)
    data = attestation(built.manifest)
    with pytest.raises(StateError, match="not in the public log yet"):
        await attested(home, data, 2)
    with pytest.raises(StateError, match="no release 3"):
        await attested(home, data, 3)
    await origins.log_built(home, 2)
    assert (await attested(home, data, 2)).path in published(home), (
        "before it is approved: approvers may want to see it"
    )


async def test_in_the_log_it_is_an_entry_of_its_own_once(published_home: Home) -> None:
    home = published_home
    manifest = origins.read(home, "us").manifest
    data = attestation(manifest)
    for _ in range(2):
        assert (await attested(home, data, log=HttpWitnesses())).index == 1
    found = await entries(home)
    assert found == [manifest.encode(), data]
    assert [is_envelope(entry) for entry in found] == [False, True]
    assert await origins.release(home, origins.SECOND) == 2
    assert origins.read(home, "jp").manifest.previous == manifest.digest, "the chain of manifests passes over it"
    assert [is_envelope(entry) for entry in await entries(home)] == [False, True, False]


async def test_without_a_quorum_it_says_how_far_it_came(published_home: Home) -> None:
    class Silent(HttpWitnesses):
        async def collect(self, note: SignedNote, *_: Any) -> tuple[SignedNote, EvidenceError | None]:
            return note, EvidenceError("log policy: no quorum of witnesses")

    home = published_home
    data = attestation(origins.read(home, "us").manifest)
    with pytest.raises(EvidenceError) as lacking:
        await attested(home, data, log=Silent())
    (path,) = published(home)
    assert path in lacking.value.kept
    assert (await entries(home))[1:] == [data]
    assert (await attested(home, data, log=HttpWitnesses())).index == 1, "once more asks the witnesses again"


async def test_an_old_copy_of_the_log_is_not_gone_on_with(published_home: Home) -> None:
    class Ahead(HttpWitnesses):
        async def check_not_behind(self, *_: Any) -> None:
            raise StateError("this is an old copy of the log")

    with pytest.raises(StateError, match="old copy"):
        await attested(published_home, attestation(origins.read(published_home, "us").manifest), log=Ahead())
    assert await log_size(published_home) == 1
