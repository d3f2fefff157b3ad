"""Go's own transparency log code (golang.org/x/mod/sumdb) and ours: the same verdicts, proofs, tiles and signatures.

The peer is ``go/verify.go``, built with Debian's ``golang-go`` and ``golang-golang-x-mod-dev``.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from coldchain.errors import EvidenceError, MalformedError
from coldchain.tlog.merkle import (
    check_consistency,
    check_inclusion,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root_from_leaves,
)
from coldchain.tlog.note import open_note, parse_note
from coldchain.tlog.spellings import encode64
from coldchain.tlog.tiles import ENTRIES, new_tiles
from tests.client.tlog.logs import LOG, ONE, SIGNED_AT, MemoryLog, signed

SOURCE = Path(__file__).parent / "go" / "verify.go"
GOPATH = Path("/usr/share/gocode")


@pytest.fixture(scope="session")
def go_verify(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built program."""
    go = shutil.which("go")
    if go is None or not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("Go or its x/mod source is not installed (golang-go, golang-golang-x-mod-dev)")
    program = tmp_path_factory.mktemp("go") / "verify"
    # Debian's packages are a GOPATH tree; nothing is looked up on the network
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(GOPATH),
        "CGO_ENABLED": "0",
        "GOFLAGS": "",
        "GOPROXY": "off",
    }
    built = subprocess.run(
        [go, "build", "-o", program, SOURCE], env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return program


def ask(program: Path, question: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run([program], input=json.dumps(question), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def texts(hashes: Sequence[bytes]) -> list[str]:
    return [encode64(one) for one in hashes]


def hashes(values: list[str] | None) -> list[bytes]:
    return [base64.b64decode(value) for value in values or []]


def private_key() -> str:
    """The log's key as Go writes private keys."""
    return f"PRIVATE+KEY+{LOG.name}+{LOG.key.key_id.hex()}+{encode64(bytes([LOG.kind, *[LOG.seed] * 32]))}"


def question(log: MemoryLog, directory: Path) -> dict[str, Any]:
    for tile in new_tiles(0, log.size):
        if tile.level != ENTRIES:
            path = directory / tile.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(log.files[tile])
    return {
        "LogKey": LOG.vkey,
        "WitnessKey": ONE.vkey,
        "PrivateKey": private_key(),
        "Checkpoint": signed(log.checkpoint(), LOG, ONE).encode().decode(),
        "Directory": str(directory),
    }


def altered(proof: list[bytes], turn: int) -> list[list[bytes]]:
    """The proof itself and wrong ones."""
    made = [proof, [*proof, b"\0" * 32], proof[1:], proof[:-1], proof[::-1]]
    if proof:
        at = turn % len(proof)
        made.append([*proof[:at], leaf_hash(proof[at]), *proof[at + 1 :]])
    return made


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 600, 70000])
def test_go_reads_our_checkpoint_and_tiles_and_makes_the_same_proofs(
    go_verify: Path, tmp_path: Path, size: int
) -> None:
    log = MemoryLog.of(size)
    picked = sorted(
        {index for index in (0, 1, 2, 254, 255, 256, 257, size // 3, size - 2, size - 1) if 0 <= index < size}
    )
    asked = question(log, tmp_path) | {"Entries": picked, "Olds": [index + 1 for index in picked]}
    answer = ask(go_verify, asked)
    assert answer["Signers"] == [LOG.name, ONE.name]
    assert answer["Time"] == SIGNED_AT
    reader = log.reader()
    for index, theirs, grown in zip(picked, answer["OurEntries"], answer["OurOlds"], strict=True):
        assert hashes(theirs) == prove_inclusion(index, size, reader)
        assert hashes(grown) == prove_consistency(index + 1, size, reader)
        check_inclusion(hashes(theirs), index, size, log.root(), leaf_hash(log.entries[index]))
    # what Go signs with the same key is what we sign, byte for byte
    theirs = parse_note(answer["Note"].encode())
    assert theirs == signed(log.checkpoint(), LOG)
    assert list(open_note(theirs, [LOG.key]).signed) == [LOG.key]


def test_go_and_we_give_the_same_verdict_on_right_and_wrong_proofs(go_verify: Path, tmp_path: Path) -> None:
    leaves = [leaf_hash(b"entry %d" % number) for number in range(40)]
    roots = [root_from_leaves(leaves[:size]) for size in range(41)]
    log = MemoryLog.of(40)
    inclusion: list[dict[str, Any]] = []
    consistency: list[dict[str, Any]] = []
    ours: tuple[list[bool], list[bool]] = ([], [])
    for size in range(1, 41):
        part = MemoryLog.of(size)
        reader = part.reader()
        for index in range(size):
            turn = size + index
            for proof in altered(prove_inclusion(index, size, reader), turn):
                for at in {index, turn % size}:
                    ours[0].append(accepts(check_inclusion, proof, at, size, roots[size], leaves[index]))
                    case = {"Index": at, "Size": size, "Leaf": leaves[index], "Root": roots[size], "Proof": proof}
                    inclusion.append(encoded(case))
            old = index + 1
            for proof in altered(prove_consistency(old, size, reader), turn):
                for at in {old, turn % size + 1}:
                    ours[1].append(accepts(check_consistency, proof, at, roots[old], size, roots[size]))
                    case = {"Old": at, "New": size, "OldRoot": roots[old], "NewRoot": roots[size], "Proof": proof}
                    consistency.append(encoded(case))
    answer = ask(go_verify, question(log, tmp_path) | {"Inclusion": inclusion, "Consistency": consistency})
    assert (answer["Inclusion"], answer["Consistency"]) == ours
    for verdicts in ours:
        assert len(verdicts) > 4000
        assert sum(verdicts) >= 820
        assert not all(verdicts)


def encoded(case: dict[str, Any]) -> dict[str, Any]:
    return {
        name: encode64(value) if isinstance(value, bytes) else texts(value) if isinstance(value, list) else value
        for name, value in case.items()
    }


def accepts(check: Any, *arguments: object) -> bool:
    try:
        check(*arguments)
    except (EvidenceError, MalformedError):
        return False
    return True


def verdict(program: Path, asked: dict[str, Any]) -> tuple[int, str]:
    done = subprocess.run([program], input=json.dumps(asked), capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_go_refuses_an_altered_tile_and_checkpoint(go_verify: Path, tmp_path: Path) -> None:
    """The peer's own checks can fail: else the tests above would say nothing.

    The size matters: where several of the root's subtrees lie in one tile (at 300: three), TileHashReader before x/mod 0.40
    left some full tiles unchecked (CVE-2026-56865). Ours checks every tile, see ``test_tiles.py``.
    """
    log = MemoryLog.of(257)
    asked = question(log, tmp_path) | {"Entries": [3]}
    for old, new in (("\n257\n", "\n256\n"), ("log.example", "log.example."), ("AABl", "AABm")):
        assert old in asked["Checkpoint"]
        code, _ = verdict(go_verify, asked | {"Checkpoint": asked["Checkpoint"].replace(old, new)})
        assert code == 1, old
    assert verdict(go_verify, asked) == (0, "")
    tile = tmp_path / "tile/0/000"
    data = bytearray(tile.read_bytes())
    data[100] ^= 1
    tile.write_bytes(bytes(data))
    code, said = verdict(go_verify, asked)
    assert (code, "inconsistent tile" in said) == (1, True), said
