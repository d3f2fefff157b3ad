"""Bundles in memory for the tests of the codec: a content store, both ends of applying, and strategies for sections."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from hypothesis import strategies as st

from coldchain.bundle.delta import apply_delta
from coldchain.bundle.description import BundleDescription, Engine, Kind, Section
from coldchain.errors import DigestError
from coldchain.limits import LIMITS, Limits
from coldchain_server.deltas.diff import diff_bundles
from coldchain_server.deltas.encode import DeltaStats, encode_delta

Content = Mapping[str, bytes | list[bytes]]
"""Section name -> bytes of a file section, or the lines of a set section."""


class Store:
    """Content by digest, as the server keeps it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="coldchain-test-"))
        weakref.finalize(self, shutil.rmtree, self.path, True)

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        (self.path / digest).write_bytes(data)
        return digest

    def __call__(self, digest: str) -> Path:
        return self.path / digest


class Old:
    """A bundle whose sections lie in a store."""

    def __init__(self, description: BundleDescription, store: Store) -> None:
        self.description = description
        self.store = store

    def open(self, name: str) -> BinaryIO:
        section = self.description.section(name)
        assert section is not None
        return self.store(section.sha256).open("rb")


class New:
    """Takes what is written; ``sections`` holds what was finished, ``kept`` what was taken over."""

    def __init__(self, old: Old | None = None) -> None:
        self.old = old
        self.sections: dict[str, bytes] = {}
        self.kept: list[Section] = []
        self.open_now = 0

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        assert name not in self.sections, "a section is written once"
        buffer = io.BytesIO()
        self.open_now += 1
        try:
            yield buffer
            self.sections[name] = buffer.getvalue()
        finally:
            self.open_now -= 1

    def keep(self, section: Section) -> None:
        assert self.old is not None
        with self.old.open(section.name) as file:
            if hashlib.sha256(file.read()).hexdigest() != section.sha256:
                raise DigestError("a kept section is damaged")
        self.kept.append(section)


def describe(
    content: Content, store: Store, release: int = 1, engines: Mapping[str, Engine] | None = None
) -> BundleDescription:
    """The bundle of this content, put into the store; sets are made canonical, empty ones left out."""
    sections = []
    for name, value in sorted(content.items()):
        kind: Kind = "set" if isinstance(value, list) else "file"
        data = b"".join(line + b"\n" for line in sorted(set(value))) if isinstance(value, list) else value
        if kind == "set" and not data:
            continue
        engine: Engine = (engines or {}).get(name, "list")
        records = data.count(b"\n")
        sections.append(Section(name, kind, engine, records, len(data), store.put(data)))
    return BundleDescription("ex", "us", "stable", release, tuple(sections))


def encode(old: BundleDescription | None, new: BundleDescription, store: Store) -> tuple[bytes, DeltaStats]:
    out = io.BytesIO()
    stats = encode_delta(diff_bundles(old, new, store), store, out)
    assert stats.length == len(out.getvalue())
    return out.getvalue(), stats


def apply(
    data: bytes, old: BundleDescription | None, store: Store, expected: str, limits: Limits = LIMITS
) -> tuple[BundleDescription, New]:
    before = Old(old, store) if old else None
    new = New(before)
    return apply_delta(io.BytesIO(data), before, new, expected=expected, limits=limits), new


def check(data: bytes, old: BundleDescription | None, new: BundleDescription, store: Store) -> None:
    """Applies and compares every byte with the bundle that was meant."""
    made, target = apply(data, old, store, new.digest)
    assert made == new
    for section in new.sections:
        if section in target.kept:
            continue
        assert target.sections[section.name] == store(section.sha256).read_bytes()
    assert set(target.sections) | {section.name for section in target.kept} == {s.name for s in new.sections}
    assert not target.open_now


def round_trip(old: Content | None, new: Content, store: Store) -> tuple[bytes, DeltaStats]:
    """Diffs, encodes, applies, compares; returns the delta."""
    before = describe(old, store, 41) if old is not None else None
    after = describe(new, store, 42)
    data, stats = encode(before, after, store)
    check(data, before, after, store)
    return data, stats


# -- strategies ------------------------------------------------------------------------------------------------------

odd_line = st.binary(min_size=1, max_size=24).filter(lambda b: b"\n" not in b and b"\r" not in b)
name_text = st.sampled_from(
    [b"Win.Trojan.Agent-%d-0", b"Win.Malware.X-%d-1", b"Js.a%db%dc%d", b"plain", b"0%d", b"00%d", b"%d", b"a\x01b%d"]
)


@st.composite
def hash_name(draw: st.DrawFn) -> bytes:
    pattern = draw(name_text)
    numbers = draw(st.lists(st.integers(0, 10**16), min_size=pattern.count(b"%"), max_size=pattern.count(b"%")))
    return pattern % tuple(numbers)


@st.composite
def hash_line(draw: st.DrawFn) -> bytes:
    width = draw(st.sampled_from([16, 16, 16, 20, 32]))
    digest = draw(st.binary(min_size=width, max_size=width)).hex().encode()
    size = draw(st.one_of(st.integers(0, 10**6).map(str), st.sampled_from(["*", "007", "4294967296", "999999999"])))
    return digest + b":" + size.encode() + b":" + draw(hash_name())


bare_hash = (
    st.sampled_from([16, 20, 32]).flatmap(lambda n: st.binary(min_size=n, max_size=n)).map(lambda b: b.hex().encode())
)
_octet = st.one_of(st.integers(0, 255), st.sampled_from([0, 10, 255]))


@st.composite
def address_line(draw: st.DrawFn) -> bytes:
    line = b"%d.%d.%d.%d" % tuple(draw(_octet) for _ in range(4))
    port = draw(st.one_of(st.none(), st.integers(0, 70_000)))
    tail = draw(st.sampled_from([b"", b"", b"\tqakbot", b",x,1", b";y", b" z", b"x", b"/24"]))
    return line + (b":%d" % port if port is not None else b"") + tail


domain = st.lists(st.sampled_from([b"a", b"bc", b"example", b"evil", b"com", b"net"]), min_size=1, max_size=4).map(
    b".".join
)
lines_of_a_kind = st.one_of(
    *(
        st.lists(strategy, max_size=20)
        for strategy in (
            odd_line,
            hash_line(),
            bare_hash,
            address_line(),
            domain,
            st.one_of(hash_line(), address_line(), odd_line),
        )
    )
)
file_bytes = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.sampled_from([b"rule a {\n", b"  strings: $a = {00 11}\r\n", b"}\n", b"x", b"\n", b"condition: $a\n"]),
        max_size=40,
    ).map(b"".join),
)
names = st.sampled_from(["a.hdb", "b.hsb", "c.ndb", "d.yar", "e.yar", "f.txt", "Z_9", "-x", "e.yar.yar"])
contents = st.dictionaries(names, st.one_of(lines_of_a_kind, lines_of_a_kind, file_bytes), max_size=5)
