"""Canonical sets and safe names."""

from __future__ import annotations

import io
import random

from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.description import Engine, check_section_name
from coldchain.bundle.sections import check_set
from coldchain_server.assembly.canonical_sections import LONGEST, canonical_set, section_name

LINES = st.lists(
    st.binary(min_size=1, max_size=12).filter(
        lambda one: not {10, 13} & set(one) and not one.startswith(b"\xef\xbb\xbf")
    )
)
ENGINES: tuple[Engine, ...] = ("clamav", "yara", "list")


@given(LINES, st.randoms(use_true_random=False))
def test_order_and_repetition_have_no_say(lines: list[bytes], dice: random.Random) -> None:
    data, records = canonical_set(lines)
    other = lines + lines[: len(lines) // 2]
    dice.shuffle(other)
    assert canonical_set(other) == (data, records)
    assert set(data.split(b"\n")) - {b""} == set(lines)
    if lines:
        assert check_set(io.BytesIO(data), "a")[0] == records


def test_names() -> None:
    cases: list[tuple[str, Engine, str]] = [
        ("db/main.HDB", "clamav", "acme-db-main.hdb"),
        ("Main.x.Ndb", "clamav", "acme-Main.x.ndb"),
        ("a b/é.yar", "yara", "acme-a_b-_.yar"),
        ("domains.TXT", "list", "acme-domains.list"),
        ("x.md5", "list", "acme-x.md5.list"),
        (".a.hdb", "clamav", "acme-a.hdb"),
    ]
    for path, engine, name in cases:
        assert section_name("acme", path, engine) == name


@given(
    st.text(min_size=1, max_size=300).map(lambda one: one + ".hdb"),
    st.sampled_from(ENGINES),
    st.sampled_from(["a", "a" * 32]),
)
def test_every_name_is_one_that_clients_take(path: str, engine: Engine, feed: str) -> None:
    path = path.encode("utf-8", "replace").decode()
    name = section_name(feed, path, engine)
    assert check_section_name(name) == name
    assert len(name) <= LONGEST
    assert name.startswith(feed + "-")
    assert name.endswith(".list" if engine == "list" else ".hdb")


def test_long_paths_that_end_alike_keep_apart() -> None:
    names = {section_name("acme", f"{number}/" + "x" * 200 + ".hdb", "clamav") for number in range(50)}
    assert len(names) == 50
