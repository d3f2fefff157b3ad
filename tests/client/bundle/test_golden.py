"""Golden vectors: what was published once is read for ever. Stored files give the stored results, byte for byte.

Compressed bytes are read here and never compared with what today's encoder writes, since versions of zstd differ; canonical JSON is
compared both ways.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from coldchain.bundle.delta import decode_block
from coldchain.bundle.description import FILE_NAME, parse_description
from coldchain.bundle.file_pieces import COPIES, RANGE, WINDOW, read_group
from coldchain.bundle.manifest import parse_manifest
from coldchain.bundle.varint import Reader
from coldchain.limits import LIMITS
from coldchain_server.deltas.changes import encode_change_list, parse_change_list
from coldchain_server.deltas.diff import diff_bundles
from tests.client.bundle.bundles import check, encode
from tests.client.bundle.golden import GOLDEN, golden

BUNDLE_DIGESTS = {
    "41": "ea07e3e16a16c96b723b6aea1cb782f278a08a282a2e9077b4b11a135e52e024",
    "42": "0b19f7538edc3ddc0a0d5d9d237cc0e4a8df6ca70649eb83bcadaf6e1e0ceb67",
}
MANIFEST_DIGEST = "a4ea8ceb6af892d720d95b842062f8a56938283423599994d4677428ea10598e"
FORMS: dict[str, Any] = json.loads((GOLDEN / "forms.json").read_text(encoding="ascii"))


@pytest.mark.parametrize("name", ["41.full.ccd", "42.full.ccd", "42.from-41.ccd", "42.sets.ccd", "42.files.ccd"])
def test_stored_deltas_make_the_stored_bundles(name: str) -> None:
    found = golden()
    vector = found.vectors[name]
    check(vector.data, vector.old, vector.new, found.store)
    check(encode(vector.old, vector.new, found.store)[0], vector.old, vector.new, found.store)


@pytest.mark.parametrize("release", ["41", "42"])
def test_descriptions_are_canonical_and_name_what_lies_there(release: str) -> None:
    folder = GOLDEN / "releases" / release
    data = (folder / FILE_NAME).read_bytes()
    description = parse_description(data)
    assert description.encode() == data
    assert description.digest == BUNDLE_DIGESTS[release]
    assert {path.name for path in folder.iterdir()} == {FILE_NAME, *(section.name for section in description.sections)}
    for section in description.sections:
        content = (folder / section.name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (section.sha256, section.bytes)
        assert section.kind == "file" or section.records == content.count(b"\n")


def test_the_manifest_is_canonical() -> None:
    data = (GOLDEN / "manifest.json").read_bytes()
    manifest = parse_manifest(data)
    assert manifest.encode() == data
    assert manifest.digest == MANIFEST_DIGEST
    assert manifest.whole.bundle == BUNDLE_DIGESTS["42"]
    assert manifest.previous == BUNDLE_DIGESTS["41"]


def test_the_change_list_says_what_a_diff_says() -> None:
    found = golden()
    vector = found.vectors["42.from-41.ccd"]
    change = parse_change_list((GOLDEN / "41-42.cch").read_bytes())
    assert change == diff_bundles(vector.old, vector.new, found.store)
    assert parse_change_list(encode_change_list(change)) == change


@pytest.mark.parametrize("block", FORMS["blocks"], ids=lambda block: block["kind"])
def test_every_form_of_a_block(block: dict[str, Any]) -> None:
    lines = [segment.encode().split(b"\n") for segment in block["lines"]]
    flags = set()
    for body in map(bytes.fromhex, block["bodies"]):
        source = Reader(body, "block")

        def reference(mode: int, source: Reader = source) -> bytes:
            if mode == 3:
                assert source.take(len(FORMS["window"]) // 2).hex() == FORMS["window"]
            content: str = FORMS["references"][str(mode)]
            return content.encode()

        assert decode_block(source, [len(segment) for segment in lines], reference, LIMITS) == lines
        flags.add(body[:2])
    assert len(flags) == len(block["bodies"])


@pytest.mark.parametrize("group", FORMS["groups"], ids=str)
def test_every_form_of_a_group(group: dict[str, Any]) -> None:
    olds = [bytes.fromhex(old) for old in group["olds"]]

    def old_range(index: int, start: int, length: int | None) -> bytes:
        return olds[index][start:] if length is None else olds[index][start : start + length]

    def window(source: Reader) -> bytes:
        assert source.varint() == 0
        return bytes.fromhex(group["window"])

    for body in map(bytes.fromhex, group["bodies"]):
        source = Reader(body, "group")
        pieces = read_group(source, 0, 2, old_range, window, LIMITS)
        source.done()
        assert [piece.data.hex() for piece in pieces] == group["pieces"]
        assert [piece.goes_on for piece in pieces] == group["goes_on"]
        assert [piece.file for piece in pieces] == list(range(len(pieces)))


def test_the_forms_are_all_there() -> None:
    """What a decoder can be asked for, and no vector shows, could break unseen."""
    kinds = {block["kind"]: [bytes.fromhex(body) for body in block["bodies"]] for block in FORMS["blocks"]}
    assert {body[1] >> 2 for body in kinds["text"]} == {0, 1, 2, 3}
    assert {body[1] & 3 for body in kinds["text"]} == {0, 1, 3}
    hashes = [bytes.fromhex(body) for block in FORMS["blocks"] if block["kind"] == "hashes" for body in block["bodies"]]
    assert {body[1] & 3 for body in hashes} == {0, 1, 2}
    assert {body[1] & 8 for body in hashes} == {0, 8}
    assert {body[1] & 16 for body in hashes} == {0, 16}
    assert {body[1] & ~16 for body in kinds["bare hashes"]} == {4}
    assert {body[1] for body in kinds["addresses"]} == {7}
    groups = [bytes.fromhex(body) for group in FORMS["groups"] for body in group["bodies"]]
    assert {body[0] for body in groups} == {0, WINDOW, COPIES, WINDOW | COPIES}
    assert {body[2] & RANGE for body in groups} == {0, RANGE}
