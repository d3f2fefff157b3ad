"""Applying: exactly the signed bundle or an error of ours, from well-formed, damaged and forged deltas alike."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.bundle.columns import ZSTD
from coldchain.bundle.delta import EDITED, MAGIC, apply_delta, decode_block
from coldchain.bundle.description import BundleDescription, Section
from coldchain.bundle.varint import Reader, encode_varints
from coldchain.errors import ColdchainError, DigestError, MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits
from coldchain_server.deltas.compose import compose
from coldchain_server.deltas.diff import diff_bundles
from coldchain_server.deltas.ladder import ladder
from coldchain_server.deltas.pack import plain_column
from tests.client.bundle.bundles import New, Old, Store, apply, check, contents, describe, encode, odd_line, round_trip
from tests.client.bundle.forged import Parts, take_apart
from tests.server.deltas.histories import histories

BETWEEN = ("header", "removed", "blocks", "groups")


def word(text: bytes) -> bytes:
    return encode_varints([len(text)]) + text


def full_header(*steps: bytes, canaries: int = 0, release: int = 42) -> bytes:
    """Of a full bundle with these steps."""
    head = bytes([1 | canaries]) + word(b"ex") + word(b"us") + word(b"stable") + encode_varints([release])
    return head + b"".join(steps) + b"\0"


def coming_set(name: bytes, count: int, shared: int = 0) -> bytes:
    return b"\x03\x04" + encode_varints([shared]) + word(name) + encode_varints([count])


def text_block(*lines: bytes) -> tuple[int, bytes]:
    return len(lines), b"\0\0" + plain_column(b"\n".join(lines))


def plainly(body: bytes, _reference: bytes) -> bytes:
    return plain_column(body)


@pytest.fixture
def store() -> Store:
    return Store()


def made(parts: Parts, old: BundleDescription | None = None) -> bytes:
    return parts.encode(old, plainly)


def refused(data: bytes, old: BundleDescription | None, store: Store, match: str, limits: Limits = LIMITS) -> None:
    with pytest.raises(MalformedError, match=match):
        apply(data, old, store, "0" * 64, limits)


# -- what is written is read -----------------------------------------------------------------------------------------


def test_the_worked_example(store: Store) -> None:
    old, new = describe({"l": [b"a", b"c"]}, store, 42), describe({"l": [b"a", b"b", b"c"]}, store, 43)
    data, stats = encode(old, new, store)
    assert data.hex() == "43434401" + "18000001000100" + "00" + "010400000462"
    assert (stats.header, stats.removed, stats.blocks, stats.files) == (12, 0, 6, 0)
    check(data, old, new, store)


@settings(max_examples=60)
@given(st.one_of(st.none(), contents), contents)
def test_any_two_bundles(old: dict[str, bytes | list[bytes]] | None, new: dict[str, bytes | list[bytes]]) -> None:
    round_trip(old, new, Store())


@settings(max_examples=30)
@given(histories(3))
def test_every_way_of_a_history_leads_to_the_same_bundle(history: list[dict[str, bytes | list[bytes]]]) -> None:
    """Step by step, from any rung of the ladder, by the composed change, and from nothing."""
    store = Store()
    bundles = [describe(content, store, i + 1) for i, content in enumerate(history)]
    steps = [diff_bundles(a, b, store) for a, b in itertools.pairwise(bundles)]
    for old, new in itertools.pairwise(bundles):
        check(encode(old, new, store)[0], old, new, store)
    newest = bundles[-1]
    for source in ladder(newest.release):
        check(encode(bundles[source - 1], newest, store)[0], bundles[source - 1], newest, store)
    check(encode(None, newest, store)[0], None, newest, store)
    composed = compose(steps[0], steps[1])
    assert composed is None or composed == diff_bundles(bundles[0], newest, store)


@pytest.mark.parametrize(
    "lines",
    [
        [b"x"],
        [b"a" * LIMITS.line_bytes],
        [b"a" * LIMITS.line_bytes, b"a" * (LIMITS.line_bytes - 1) + b"b", b"b"],
        ["caf\u00e9 \u65e5\u672c \U0001f9ca".encode(), b"\xff\xfe\x00\x01", b"\x80"],
        [b"a\rb", b"\ra"],  # the assembler lets none through; what is signed comes out as it went in
        [b"%d" % i for i in range(9_000)],
    ],
    ids=["one line", "the longest line", "longest lines", "not ASCII", "CR inside", "many"],
)
def test_lines_of_every_sort(lines: list[bytes], store: Store) -> None:
    for old in (None, {}, {"l": [b"m"]}, {"l": [b"m", *lines]}, {"l": lines[:1]}, {"other": lines}):
        round_trip(old, {"l": lines}, store)
        round_trip({"l": lines}, {"l": [b"m", *lines[1:]]}, store)


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n", b"\r", b"\x00" * 70_000, b"a\r\nb\rc\n", bytes(range(256)) * 9])
def test_files_of_every_sort(body: bytes, store: Store) -> None:
    for old in (b"", b"x", body + b"y", body[1:], body * 2):
        for before in (None, {}, {"f": old}, {"f": old, "g": old}, {"g": body}, {"f": [b"a set before"]}):
            round_trip(before, {"f": body}, store)


def test_files_larger_than_a_group(store: Store) -> None:
    """Cut into pieces, each against its part of the old file."""
    old = b"".join(b"%07d line of a large file\n" % i for i in range(120_000))
    new = old[:1_000_000] + b"inserted\n" + old[1_000_000:2_500_000] + old[2_500_050:]
    assert len(new) > 3 << 20
    data, _ = round_trip({"big.yar": old, "small": b"1"}, {"big.yar": new, "small": b"2"}, store)
    assert len(data) < 3000
    parts = take_apart(data, describe({"big.yar": old, "small": b"1"}, store, 41))
    assert len(parts.groups) >= 2


def test_more_removed_records_than_a_chunk(store: Store) -> None:
    lines = [b"%06d" % i for i in range(150_000)]
    round_trip({"l": lines, "m": [b"1", b"2"]}, {"l": lines[::150], "m": [b"2"]}, store)


def test_canaries_cost_nothing_and_come_from_the_header(store: Store) -> None:
    for canaries in range(0, 8, 2):
        parts = Parts(full_header(coming_set(b"l", 1), canaries=canaries), blocks=(text_block(b"a"),))
        made_at = New()
        with pytest.raises(DigestError):
            apply_delta(io.BytesIO(made(parts)), None, made_at, expected="0" * 64)
        names = {"l"} | ({"coldchain-canary.ndb"} if canaries & 2 else set())
        assert set(made_at.sections) == names | ({"coldchain-canary.yar"} if canaries & 4 else set())


# -- what does not fit -----------------------------------------------------------------------------------------------


def test_duplicates_and_disorder_are_refused(store: Store) -> None:
    for lines in ((b"a", b"a"), (b"b", b"a"), (b"",), (b"", b"a")):
        refused(
            made(Parts(full_header(coming_set(b"l", len(lines))), blocks=(text_block(*lines),))),
            None,
            store,
            "in order",
        )
    for blocks in ((text_block(b"b"), text_block(b"a")), (text_block(b"a"), text_block(b"a"))):
        refused(made(Parts(full_header(coming_set(b"l", 2)), blocks=blocks)), None, store, "in order")
    old = describe({"l": [b"b", b"d"]}, store, 41)
    for line in (b"b", b"d"):  # one that is there already: sorted in twice, so the digest is another
        parts = Parts(bytes([0, 0, 1, 0, 1, 0]), blocks=(text_block(line),))
        with pytest.raises((DigestError, MalformedError)):
            apply(made(parts, old), old, store, describe({"l": [b"b", b"d"]}, store, 42).digest)


def test_the_magic(store: Store) -> None:
    good = made(Parts(full_header()))
    for data in (b"", b"C", b"CCD", b"CCD\0" + good[4:], b"CCH\1" + good[4:], b"\x28\xb5\x2f\xfd" + good[4:]):
        refused(data, None, store, "not a delta|ends too early")
    for version in (2, 3, 255):
        with pytest.raises(NewerFormatError, match=str(version)):
            apply(b"CCD" + bytes([version]) + good[4:], None, store, "0" * 64)


def test_an_old_bundle_where_none_belongs_and_the_other_way_round(store: Store) -> None:
    old, new = describe({"l": [b"a"]}, store, 1), describe({"l": [b"b"]}, store, 2)
    refused(encode(None, new, store)[0], old, store, "needs its old bundle")
    refused(encode(old, new, store)[0], None, store, "needs its old bundle")


@settings(max_examples=40)
@given(histories(3))
def test_another_old_bundle(history: list[dict[str, bytes | list[bytes]]]) -> None:
    store = Store()
    a, b, c = (describe(content, store, i + 1) for i, content in enumerate(history))
    data, _ = encode(b, c, store)
    other = replace(a, release=2)
    if other.sections == b.sections:
        return
    try:
        found, target = apply(data, other, store, c.digest)
    except ColdchainError:
        return
    assert found == c, "whatever it starts from, it ends on the signed bundle or not at all"
    assert all(
        target.sections.get(s.name, store(s.sha256).read_bytes()) == store(s.sha256).read_bytes() for s in c.sections
    )


def test_a_damaged_old_set_is_noticed(store: Store) -> None:
    """Also in what is kept, and in what only serves as reference; the old files are only read."""
    numbers = [b"%d" % i for i in range(100, 201)]
    before: dict[str, bytes | list[bytes]] = {"kept": [b"k1", b"k2"], "l": numbers[:-1], "f": b"rule a {}\n" * 9}
    old = describe(before, store, 1)
    new = describe({**before, "l": numbers[1:], "f": b"rule b {}\n" + b"rule a {}\n" * 9}, store, 2)
    data, _ = encode(old, new, store)
    check(data, old, new, store)
    refusals = 0
    for section in old.sections:
        path = store(section.sha256)
        good = path.read_bytes()
        for bad in (good[:-1], good + b"z\n", good[1:], b"", bytes([good[0] ^ 1]) + good[1:], b"\xff" * 600_000):
            path.write_bytes(bad)
            try:
                found, target = apply(data, old, store, new.digest)
            except (DigestError, MalformedError):
                refusals += 1
            else:  # the damage lay in what goes, or behind all that was read
                assert found == new
                for name, content in target.sections.items():
                    made_section = new.section(name)
                    assert made_section is not None
                    assert hashlib.sha256(content).hexdigest() == made_section.sha256
            assert path.read_bytes() == bad
        path.write_bytes(good)
    assert refusals >= 3 * 6 - 3
    check(data, old, new, store)


# -- forged ones: every length right, one number wrong ---------------------------------------------------------------


def test_more_and_less_than_declared(store: Store) -> None:
    header, block = full_header(coming_set(b"l", 2)), text_block(b"a", b"b")
    good = Parts(header, blocks=(block,))
    for parts, match in (
        (replace(good, blocks=()), "ends inside a number"),
        (replace(good, blocks=(text_block(b"a"),)), "ends inside a number"),
        (replace(good, blocks=(text_block(b"a", b"b", b"c"),)), "more added records than declared"),
        (replace(good, blocks=(block, block)), "bytes after its end"),
        (replace(good, blocks=((0, block[1]), block)), "without records"),
        (replace(good, blocks=((2, block[1] + b"\0"),)), "1 bytes too many"),
        (replace(good, blocks=((2, b"\4" + block[1][1:]),)), "4 is more than 3"),
        (replace(good, blocks=((2, bytes([EDITED]) + b"\0" + block[1][1:]),)), "edited lines where there are none"),
        (replace(good, removed=b"\0"), "bytes after its removed records"),
        (replace(good, groups=(b"\0",)), "bytes after its end"),
        (replace(good, header=full_header(coming_set(b"l", 0)), blocks=()), "becomes empty"),
    ):
        refused(made(parts), None, store, match)
    data = made(good)
    for extra in (b"\0", data):
        refused(data + extra, None, store, "bytes after its end")


def test_a_set_may_not_become_empty(store: Store) -> None:
    old = describe({"l": [b"a", b"b"]}, store, 1)
    refused(made(Parts(bytes([0, 0, 1, 2, 0, 0]), removed=b"\x02\x00\x00"), old), old, store, "becomes empty")
    refused(
        made(Parts(bytes([0, 0, 1, 1, 0, 0]), removed=b"\x02\x01\x80"), old), old, store, "is more than|inside a gap"
    )


@pytest.mark.parametrize("mode", [1, 2, 3])
def test_a_full_bundle_refers_to_nothing_old(mode: int, store: Store) -> None:
    """Its references are empty, never files of the directory it runs in."""
    window = b"\0" if mode == 3 else b""
    body = bytes([0, mode << 2]) + window + plain_column(b"a")
    parts = Parts(full_header(coming_set(b"l", 1)), blocks=((1, body),))
    new = describe({"l": [b"a"]}, store, 42)
    assert apply(made(parts), None, store, new.digest)[0] == new


def test_bounds_hold_before_anything_is_unpacked(store: Store) -> None:
    old = describe({"l": [b"a" * 60, b"c" * 60], "f": b"f" * 80}, store, 41)
    new = describe({"l": [b"a" * 60, b"b" * 50, b"c" * 60], "f": b"g" * 90, "k": b"k" * 40}, store, 42)
    data, _ = encode(old, new, store)
    whole = len(new.encode())
    for limits, match in (
        (Limits(delta_bytes=len(data) - 1), "longer than allowed"),
        (Limits(delta_block_records=0), "more than 0"),
        (Limits(delta_block_bytes=8), "at most 8|more than"),
        (Limits(line_bytes=49), "longer than allowed"),
        (Limits(section_bytes=172), "larger than allowed"),
        (Limits(bundle_bytes=new.total_bytes - 1), "larger than allowed"),
        (Limits(sections=2), "more sections than allowed"),
        (Limits(records=2), "records"),
        (Limits(description_bytes=whole - 1), "longer than allowed"),
        (Limits(section_name_bytes=0), "name"),
        (Limits(zstd_dictionary_bytes=0), "allowed"),
    ):
        with pytest.raises(MalformedError, match=match):
            apply(data, old, store, new.digest, limits)
    exact = Limits(
        delta_bytes=len(data), delta_block_records=1, line_bytes=60, section_bytes=173, bundle_bytes=new.total_bytes,
        sections=3, records=3, description_bytes=whole, section_name_bytes=1,
    )  # fmt: skip
    assert apply(data, old, store, new.digest, exact)[0] == new


def test_a_bundle_that_grows_too_large_is_given_up_while_it_is_written(store: Store) -> None:
    """Not at the end, when the disk is full: no section begins that has no room."""
    count = 5
    steps = [coming_set(b"s%d" % i, 1) for i in range(count)]
    data = made(Parts(full_header(*steps), blocks=((count, b"\0\0" + plain_column(b"\n".join([b"x" * 99] * count))),)))
    new = New()
    with pytest.raises(MalformedError, match="larger than allowed"):
        apply_delta(io.BytesIO(data), None, new, expected="0" * 64, limits=Limits(bundle_bytes=299))
    assert sum(map(len, new.sections.values())) == 200


def test_a_description_that_no_update_could_read_again_is_refused(store: Store) -> None:
    """Signed or not: with it installed, every later delta would fail."""
    kept = tuple(Section(f"s{i}", "file", "list", 0, 0, hashlib.sha256(b"").hexdigest()) for i in range(3))
    store.put(b"")
    old = BundleDescription("ex", "us", "stable", 41, kept)
    expected = replace(old, release=42)
    data = made(Parts(b"\0\0\0"), old)
    assert apply(data, old, store, expected.digest)[0] == expected
    for limits in (Limits(sections=2), Limits(description_bytes=len(expected.encode()) - 1)):
        with pytest.raises(MalformedError):
            apply(data, old, store, expected.digest, limits)


def test_headers_longer_than_the_first_read(store: Store) -> None:
    """One that needs more than the first 64 KiB of the file."""
    names = [b"%0127d" % i for i in range(600)]
    parts = Parts(full_header(*(coming_set(name, 1) for name in names)), blocks=(text_block(*[b"x"] * 600),))
    new = describe({name.decode(): [b"x"] for name in names}, store, 42)
    data = made(parts)
    assert len(parts.header) > (1 << 16) + 128
    check(data, None, new, store)
    for end in (1 << 15, 1 << 16, (1 << 16) + 4, len(parts.header) + 4, len(parts.header) + 8):
        with pytest.raises(MalformedError):
            apply(data[:end], None, store, new.digest)


def test_a_header_is_bounded_like_a_block(store: Store) -> None:
    for length in (LIMITS.delta_block_bytes + 1, LIMITS.description_bytes, 1 << 40):
        refused(MAGIC + encode_varints([length << 2 | ZSTD, 4]) + b"abcd", None, store, "are allowed")


@given(st.binary(max_size=60), st.sampled_from(BETWEEN))
def test_foreign_parts_raise_only_our_error(data: bytes, where: str) -> None:
    store = Store()
    old = describe({"f": b"old file", "l": [b"a", b"c"]}, store, 41)
    parts = Parts(
        b"\0\0" + b"\x01\x00" + b"\x01\x01\x01" + b"\0", b"\x02\x00\x00", (text_block(b"b"),), (b"\0\1\x08\x08xy",)
    )
    good, _ = describe({"f": b"xy", "l": [b"b", b"c"]}, store, 42), None
    assert apply(made(parts, old), old, store, replace_records(good, "f", 0).digest)
    value: object = {"blocks": ((1, data),), "groups": (data,)}.get(where, data)
    with pytest.raises((MalformedError, DigestError)):
        apply(made(replace(parts, **{where: value}), old), old, store, "0" * 64)  # type: ignore[arg-type]


def replace_records(description: BundleDescription, name: str, records: int) -> BundleDescription:
    sections = (replace(s, records=records) if s.name == name else s for s in description.sections)
    return replace(description, sections=tuple(sections))


@given(st.binary(max_size=60), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_foreign_blocks_raise_only_our_error(data: bytes, counts: list[int]) -> None:
    try:
        lines = decode_block(Reader(data, "x"), counts, lambda _: b"some old content", LIMITS)
    except MalformedError:
        return
    assert [len(part) for part in lines] == counts


@given(st.binary(max_size=100))
def test_foreign_files_raise_only_our_error(data: bytes) -> None:
    store = Store()
    for body in (data, MAGIC + data, MAGIC + plain_column(full_header(coming_set(b"l", 1))) + data):
        with pytest.raises((MalformedError, DigestError, NewerFormatError)):
            apply(body, None, store, "0" * 64)


@settings(max_examples=30)
@given(st.sets(odd_line, min_size=1, max_size=30), st.data())
def test_the_release_only_grows(lines: set[bytes], data: st.DataObject) -> None:
    store = Store()
    release = data.draw(st.integers(1, 2**53 - 2))
    step = data.draw(st.integers(1, min(2**31, 2**53 - 1 - release)))
    old = replace(describe({"l": sorted(lines)}, store), release=release)
    new = replace(describe({"l": sorted(lines | {b"new"})}, store), release=release + step)
    check(encode(old, new, store)[0], old, new, store)


def test_a_release_beyond_every_number(store: Store) -> None:
    old = replace(describe({"l": [b"a"]}, store), release=2**53 - 1)
    refused(made(Parts(b"\0\0\0"), old), old, store, "beyond|integer")
    refused(made(Parts(full_header(release=0))), None, store, "release 0")


def check_nothing_left_open(run: Callable[[New], object]) -> None:
    new = New()
    with pytest.raises(ColdchainError):
        run(new)
    assert not new.open_now


def test_a_section_in_the_making_is_closed_by_the_error(store: Store, tmp_path: Path) -> None:
    """So that whoever writes it may throw it away."""
    data = made(Parts(full_header(b"\x03\x05\x00"), groups=(b"\0\1\x11" + plain_column(b"f\nab"),)))
    check_nothing_left_open(lambda new: apply_delta(io.BytesIO(data), None, new, expected="0" * 64))
    assert Old(describe({}, store), store).description.sections == ()


def changed_file(*body: bytes) -> Parts:
    """Of a bundle whose only section is a file."""
    return Parts(bytes([0, 0, 1, 0, 0]), groups=(b"".join(body),))


def test_old_ranges_lie_inside_the_old_file(store: Store) -> None:
    """And inside what the description says it is, however long it is on this disk."""
    old, new = describe({"f": b"0123456789"}, store, 41), describe({"f": b"56789"}, store, 42)
    store(old.sections[0].sha256).write_bytes(b"0123456789 and what has grown behind it since")

    def copying(start: int, length: int) -> bytes:
        copy = plain_column(encode_varints([0, 5, 0])) + plain_column(b"")
        return made(changed_file(b"\1\1", encode_varints([5 << 2 | 2, start, length]), copy), old)

    for length, limits in ((5, LIMITS), (5, Limits(zstd_dictionary_bytes=5))):
        assert apply(copying(5, length), old, store, new.digest, limits)[0] == new
    for start, length in ((5, 6), (6, 5), (11, 0), (2**62, 5), (5, 2**40)):
        refused(copying(start, length), old, store, "old range that is not there|is more than")
    whole = made(changed_file(b"\1\1", encode_varints([5 << 2]), plain_column(b"\0\5\x0a") + plain_column(b"")), old)
    assert apply(whole, old, store, new.digest)[0] == new
    refused(whole, old, store, "longer than allowed", Limits(zstd_dictionary_bytes=9))


def test_a_group_ends_where_it_says(store: Store) -> None:
    old, new = describe({"f": b"old"}, store, 41), describe({"f": b"new"}, store, 42)
    body = b"\0\1\x0c" + plain_column(b"new")
    assert apply(made(changed_file(body), old), old, store, new.digest)[0] == new
    refused(made(changed_file(body, b"\0"), old), old, store, "1 bytes too many")
    for name in (b"", b"name", b".hidden\n", b"F\n", b"a/b\n"):  # of a file that comes
        parts = Parts(b"\0\0\x07\x05\0\0", groups=(b"\0\1" + encode_varints([len(name) << 2]) + plain_column(name),))
        refused(made(parts, old), old, store, "without a name|plain file name|comes twice")
