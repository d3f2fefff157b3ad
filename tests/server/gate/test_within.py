"""A bundle without some plain signatures finds nothing that the whole one does not, and only such a one is taken for it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.monitor.taken_apart import DecodedBundle
from coldchain_server.gate.served import Group, groups, take_served
from coldchain_server.gate.within import DETECT, is_within
from tests.server.feeds.engine import needs_clamscan
from tests.server.gate.worlds import GOOD, LEAVES_OUT, QUICK, File, World, detail, results
from tests.server.memory import memory_folder

LINES = [b"%032x:%d:Acme.W-%d" % (number, 9 + number, number) for number in range(6)]
SECTIONS = st.dictionaries(
    st.sampled_from(["a.hdb", "b.hdb", "c.ndb", "d.fp", "e.ign2", "f.ldb"]),
    st.sets(st.sampled_from(LINES), min_size=1).map(lambda lines: b"".join(line + b"\n" for line in sorted(lines))),
    min_size=1,
)


def apart(world: World, one: dict[str, bytes], other: dict[str, bytes]) -> tuple[Group, Group]:
    """Two regions' bundles as groups of their own."""
    order = world.order({"us": one, "jp": other})
    bundles: dict[str, DecodedBundle] = take_served(order.files, order.regions, world.folder.resolve() / "apart")
    return groups({"us": bundles["us"]}, "clamav")[0], groups({"jp": bundles["jp"]}, "clamav")[0]


@given(SECTIONS, SECTIONS)
def test_it_is_exactly_leaving_out_lines_of_types_that_only_detect(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    with memory_folder() as folder:
        found = is_within(*apart(World(folder), one, other))
    expected = one.keys() <= other.keys()
    for name, data in other.items():
        part = one.get(name)
        less = set((part or b"").splitlines()) <= set(data.splitlines())
        expected = expected and (part == data or (less and name.rpartition(".")[2] in DETECT))
    assert found == expected


@given(SECTIONS, st.data())
def test_a_part_is_within_the_whole(whole: dict[str, bytes], data: st.DataObject) -> None:
    part = {}
    for name, content in whole.items():
        kept = sorted(data.draw(st.sets(st.sampled_from(content.splitlines()))))
        plain = name.rpartition(".")[2] in DETECT
        if not plain or kept:
            part[name] = b"".join(line + b"\n" for line in kept) if plain else content
    if not part:
        return
    with memory_folder() as folder:
        assert is_within(*apart(World(folder), part, whole))


def test_macros_exceptions_and_yara_are_never_taken_for_less(world: World) -> None:
    plain, macro = b"Acme.B-1:0:*:6162636465666768\n", b"Acme.M-1:0:$12:6162636465666768\n"
    assert is_within(*apart(world, {"a.hdb": GOOD}, {"a.hdb": GOOD, "c.ndb": plain}))
    assert not is_within(*apart(world, {"a.hdb": GOOD}, {"a.hdb": GOOD, "c.ndb": macro}))
    assert not is_within(*apart(world, {"c.ndb": plain}, {"c.ndb": plain + macro}))
    one, other = apart(world, {"a.hdb": GOOD}, {"a.hdb": GOOD, "c.ndb": plain})
    assert not is_within(replace(one, kind="yara"), replace(other, kind="yara"))


@needs_clamscan
@pytest.mark.usefixtures("few_own_files")
@pytest.mark.parametrize(("exception", "scanned"), [("x.hdb", False), ("x.sfp", True)])
def test_clean_files_are_scanned_again_only_where_more_could_be_found(
    world: World, exception: str, scanned: bool
) -> None:
    """A clean file that a signature matches, and that another line makes an exception for: left out, the file is found."""
    clean = world.folder.resolve() / "clean"
    data = b"the bytes of a good program, 0123456789"
    clean.write_bytes(data)
    bad = b"Acme.False-1:0:*:" + b"bytes of a good".hex().encode() + b"\n"
    known = f"{hashlib.sha256(data).hexdigest()}:{len(data)}:Acme.Known-1:73\n".encode()
    whole = {"a.ndb": File(bad), "y.sfp": File(known), exception: File(GOOD if exception == "x.hdb" else known)}
    less = {name: file for name, file in whole.items() if name not in (("y.sfp", "x.sfp") if scanned else ("x.hdb",))}
    outcome = world.gate({"us": whole, "jp": less}, replace(QUICK, clean=(clean,)), {"jp": (LEAVES_OUT,)})
    assert results(outcome)["load-clamav"] == "passed"
    assert results(outcome)["clean"] == ("failed" if scanned else "passed")
    assert ("jp has ClamAV signatures of us and no others" in detail(outcome, "clean")) != scanned
