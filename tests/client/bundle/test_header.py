"""Headers: every step comes back, every number that does not fit is refused, names are taken once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.description import BundleDescription, Section
from coldchain.bundle.header import NAMES_BYTES, Header, names_of, old_sections, parse_header
from coldchain.bundle.varint import Reader, encode_varints
from coldchain.errors import ColdchainError, MalformedError
from coldchain.limits import LIMITS, Limits

DIGEST = "a" * 64
OLD = BundleDescription(
    "ex", "us", "stable", 41,
    (
        Section("a.hdb", "set", "clamav", 5, 50, DIGEST),
        Section("b.yar", "file", "yara", 3, 90, DIGEST),
        Section("c.ndb", "set", "clamav", 9, 200, DIGEST),
        Section("coldchain-canary.ndb", "set", "clamav", 1, 90, DIGEST),
        Section("d.list", "set", "list", 7, 70, DIGEST),
    ),
)  # fmt: skip


def parse(*numbers: int | bytes, old: BundleDescription | None = OLD, limits: Limits = LIMITS) -> Header:
    data = b"".join(n if isinstance(n, bytes) else encode_varints([n]) for n in numbers)
    return parse_header(Reader(data, "header"), old, limits)


def word(text: bytes) -> bytes:
    return encode_varints([len(text)]) + text


FULL = (1, word(b"ex"), word(b"us"), word(b"stable"), 42)


def test_the_worked_example() -> None:
    one = BundleDescription("ex", "us", "stable", 42, (Section("l", "set", "list", 2, 4, DIGEST),))
    found = parse(bytes.fromhex("000001000100"), old=one)
    assert (found.release, found.kept, [(c.name, c.removed, c.added) for c in found.changes]) == (43, [], [("l", 0, 1)])


def test_every_step() -> None:
    found = parse(6, 9, 1, 2, 4, 4 | 1, 3, 1, 3, 5, 4, 2, 3, 0, 0, word(b"e.hdb"), 8, 0)
    assert (found.product, found.region, found.channel, found.release) == ("ex", "us", "stable", 51)
    assert found.canaries == ("clamav", "yara")
    assert [s.name for s in found.kept] == ["b.yar"]
    assert [(c.name, c.kind, c.engine, c.removed, c.added, c.records) for c in found.changes] == [
        ("a.hdb", "set", "clamav", 2, 4, 0),
        ("c.ndb", "set", "clamav", 3, 1, 0),
        ("", "file", "list", 0, 0, 4),
        ("e.hdb", "set", "clamav", 0, 8, 0),
    ]
    assert [c.old.name if c.old else None for c in found.changes] == ["a.hdb", "c.ndb", None, None]


def test_everything_is_kept_after_the_end() -> None:
    assert [s.name for s in parse(0, 0, 0).kept] == ["a.hdb", "b.yar", "c.ndb", "d.list"]
    assert [s.name for s in parse(0, 0, 4 | 2, 0).kept] == ["a.hdb", "c.ndb", "d.list"]
    assert parse(*FULL, 0, old=None).kept == []


def test_a_changed_file_counts_its_records_from_the_old_ones() -> None:
    for records, zigzag in ((3, 0), (0, 5), (2, 1), (4, 2), (LIMITS.records, 2 * (LIMITS.records - 3))):
        [change] = parse(0, 0, 4 | 1, zigzag, 0).changes
        assert (change.name, change.records) == ("b.yar", records)
    for zigzag in (7, 2 * (LIMITS.records - 2), 2**62):
        with pytest.raises(MalformedError, match="out of range"):
            parse(0, 0, 4 | 1, zigzag, 0)


def test_names_share_with_the_one_before() -> None:
    steps = (3, 4, 0, word(b"acme-a.hdb"), 1, 3, 4, 5, word(b"b.hdb"), 1, 3, 5, 0, 3, 4, 10, word(b"x"), 1)
    assert [change.name for change in parse(*FULL, *steps, 0, old=None).changes] == [
        "acme-a.hdb", "acme-b.hdb", "", "acme-b.hdbx",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ((8, 0, 0), "8 is more than 7"),
        ((1, 0, 0), "needs its old bundle"),
        ((0, 2**31 + 1, 0), "is more than"),
        ((0, 0, 4), "a skip before the end"),
        ((0, 0, 4 * 4 | 1), "past the old bundle's last"),
        ((0, 0, 4 * 4 | 2), "past the old bundle's last"),
        ((0, 0, 5 * 4 | 3), "past the old bundle's last"),
        ((0, 0, 2, 2, 2, 2, 2), "past the old bundle's last"),
        ((0, 0, 1, 6, 0, 0), "6 is more than 5"),
        ((0, 0, 1, 0, LIMITS.records + 1, 0), "is more than"),
        ((0, 0, 3, 6), "6 is more than 5"),
        ((0, 0, 3, 4, 1, word(b"e"), 1, 0), "1 is more than 0"),
        ((0, 0, 3, 4, 0, word(b"e" * 129), 1, 0), "129 is more than 128"),
        ((0, 0, 3, 4, 0, word(b"e"), LIMITS.records + 1, 0), "is more than"),
        ((0, 0, 3, 4, 0, word(b"e"), 1), "ends inside a number"),
        ((0, 0, 0, 0), "1 bytes too many"),
        ((0, 0), "ends inside a number"),
        ((0,), "ends inside a number"),
        ((), "ends inside a number"),
    ],
)
def test_numbers_that_do_not_fit(numbers: tuple[int | bytes, ...], match: str) -> None:
    with pytest.raises(MalformedError, match=match):
        parse(*numbers)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".hidden",
        b"..",
        b"a/b",
        b"../a",
        b"a\\b",
        b"a b",
        b"a\n",
        b"a\0",
        b"\xc3\xa9",
        b"bundle.json",
        b"Bundle.JSON",
    ],
)
def test_names_that_are_no_plain_file_names(name: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(*FULL, 3, 4, 0, word(name), 1, 0, old=None)
    with pytest.raises(MalformedError):
        parse(*FULL, 3, 5, 1, 0, old=None).take_name(name, LIMITS)


def test_names_are_taken_once_whatever_their_case() -> None:
    def add(name: bytes) -> tuple[int | bytes, ...]:
        return (3, 4, 0, word(name), 1)

    for before, name in (
        (16, b"a.hdb"), (16, b"A.HDB"), (16, b"B.yar"), (16, b"D.LIST"),
        (16, b"coldchain-canary.ndb"), (16, b"coldchain-canary.yar"),
    ):  # fmt: skip
        with pytest.raises(MalformedError):
            parse(0, 0, before | 3, *add(name)[1:], 0)
        with pytest.raises(MalformedError):
            parse(0, 0, 0).take_name(name, LIMITS)
    for name in (b"COLDCHAIN-canary.ndb", b"coldchain-CANARY.yar"):
        assert parse(0, 0, 0).take_name(name, LIMITS)
        with pytest.raises(MalformedError, match="comes twice"):
            parse(6, 0, 0).take_name(name, LIMITS)
    with pytest.raises(MalformedError, match="comes twice"):
        parse(*FULL, *add(b"e"), *add(b"E"), 0, old=None)
    with pytest.raises(MalformedError, match="out of order"):
        parse(*FULL, *add(b"f"), *add(b"e"), 0, old=None)
    with pytest.raises(MalformedError, match="out of order"):
        parse(0, 0, 4 | 1, 0, *add(b"a0"), 0)
    found = parse(0, 0, 0)
    assert found.take_name(b"e", LIMITS) == "e"
    with pytest.raises(MalformedError, match="comes twice"):
        found.take_name(b"E", LIMITS)
    assert parse(0, 0, 2, *add(b"A.hdb"), 0).changes[0].name == "A.hdb"  # the old one goes


def test_sections_are_counted_as_they_come() -> None:
    def add(count: int) -> tuple[int | bytes, ...]:
        return tuple(n for i in range(count) for n in (3, 4, 0, word(b"%03d" % i), 1))

    for canaries, count, kept in ((0, 5, 0), (2, 4, 0), (6, 3, 0), (0, 1, 4), (6, 0, 4)):
        old = OLD if kept else None
        head = (canaries, 0) if kept else (1 | canaries, *FULL[1:])
        steps = (*head, *add(count), 0)
        total = count + kept + canaries.bit_count()
        assert len(parse(*steps, old=old, limits=Limits(sections=total)).changes) == count
        for most in range(total):
            with pytest.raises(MalformedError, match="more sections than allowed"):
                parse(*steps, old=old, limits=Limits(sections=most))
    endless = (*FULL, *add(3))  # refused at the third, before what stands behind it is looked at
    with pytest.raises(MalformedError, match="more sections than allowed"):
        parse(*endless, old=None, limits=Limits(sections=2))


def test_names_do_not_grow_from_one_to_the_next() -> None:
    """Each may share all of the one before: 65,536 of them would hold 275 GB without a bound at every step."""
    steps = (3, 4, 0, word(b"a" * 100), 1, 3, 4, 100, word(b"b" * 28), 1)
    assert len(parse(*FULL, *steps, 0, old=None).changes) == 2
    with pytest.raises(MalformedError, match="a name longer than allowed"):
        parse(*FULL, *steps, 3, 4, 128, word(b"c"), 1, old=None)  # at once: no end is there


def test_the_dictionary_of_names_ends_at_a_whole_name() -> None:
    assert names_of(None) == b""
    assert names_of(OLD) == b"a.hdb\nb.yar\nc.ndb\nd.list\n"
    assert [s.name for s in old_sections(OLD)] == ["a.hdb", "b.yar", "c.ndb", "d.list"]
    many = tuple(Section(f"{i:0127d}", "set", "list", 1, 2, DIGEST) for i in range(600))
    for extra in (0, 1, 100):
        first = Section("0" * (128 - extra) if extra else "-", "set", "list", 1, 2, DIGEST)
        names = names_of(BundleDescription("ex", "us", "stable", 1, (first, *many)))
        assert NAMES_BYTES - 128 < len(names) <= NAMES_BYTES
        assert names.endswith(b"\n")
    exact = tuple(Section(f"{i:0127d}", "set", "list", 1, 2, DIGEST) for i in range(512))
    assert len(names_of(BundleDescription("ex", "us", "stable", 1, exact))) == NAMES_BYTES


@given(st.binary(max_size=40), st.booleans())
def test_foreign_bytes_raise_only_our_error(data: bytes, full: bool) -> None:
    head = b"".join(n if isinstance(n, bytes) else encode_varints([n]) for n in FULL) if full else b""
    try:
        found = parse(head + data, old=None if full else OLD)
    except ColdchainError:
        return
    assert len({name.lower() for name in found.names}) == len(found.names)
