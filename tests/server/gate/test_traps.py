"""Every trap that engines fall into without a word (or with one, and then the whole set is gone), forced past the lint.

The gate's own lint sees each of them too; that the engines' checks do so by themselves is what is shown here.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.server.feeds.engine import needs_clamscan
from tests.server.gate.worlds import GOOD, QUICK, File, World, results, told

pytestmark = pytest.mark.usefixtures("few_own_files")

CLAMAV_TRAPS = {
    "a line that is no signature": ("acme-x.hdb", File(b"garbage:not:a:valid:line\n")),
    "a level of the future": ("acme-x.ndb", File(b"Acme.Late-1:0:*:6162636465666768:999\n")),
    "a level of the future for a hash": ("acme-x.hdb", File(b"0123456789abcdef0123456789abcdef:77:Acme.Late-2:999\n")),
    "a target description that is none": ("acme-x.ldb", File(b"Acme.Logic-1;20191220Engine:81-255;0;6162636465666768\n")),
    "a blank line": ("acme-x.hdb", File(GOOD + b"\n", 3)),
    "a byte order mark": ("acme-x.hdb", File(b"\xef\xbb\xbf" + GOOD)),
    "an empty file": ("acme-x.hdb", File(b"")),
    "a pattern of one byte": ("acme-x.ndb", File(b"Acme.Short-1:0:*:41\n")),
    "any size without a level": ("acme-x.hdb", File(b"0123456789abcdef0123456789abcdef:*:Acme.Any-1\n")),
    "one bad line among good ones": ("acme-x.hdb", File(GOOD + b"zz\n")),
}  # fmt: skip
YARA_TRAPS = {
    "a rule that does not compile": ("acme-x.yar", File(b"rule Broken { condition: nothing_known }\n")),
    "not UTF-8": ("acme-x.yar", File(b"// \xff\nrule A { condition: filesize == 77777 }\n", 1)),
    "an empty file": ("acme-x.yar", File(b"", 1)),
    "fewer rules than told": ("acme-x.yar", File(b"rule A { condition: filesize == 77777 }\n", 2)),
    "an include": ("acme-x.yar", File(b'include "other.yar"\nrule A { condition: filesize == 77777 }\n', 1)),
}


@needs_clamscan
@pytest.mark.parametrize("trap", CLAMAV_TRAPS)
def test_clamav_loads_less_than_it_should_and_the_gate_says_what(world: World, trap: str) -> None:
    name, file = CLAMAV_TRAPS[trap]
    outcome = world.gate({"us": {"acme-good.hsb": File(b"%064x:7:Acme.Good-9:73\n" % 9), name: file}})
    found = results(outcome)
    assert found["load-clamav"] == "failed"
    assert name in told(outcome, "load-clamav"), "the section is named"
    assert "acme-good" not in told(outcome, "load-clamav").partition("by itself")[2]
    assert found["lint"] == "failed"
    assert {found["clean"], found["must-detect"]} == {"not-run"}, "what a broken set finds proves nothing"


@pytest.mark.parametrize("trap", YARA_TRAPS)
def test_yara_loads_less_than_it_should_and_the_gate_says_what(world: World, trap: str) -> None:
    name, file = YARA_TRAPS[trap]
    good = File(b"rule Good { condition: filesize == 66666 }\n")
    outcome = world.gate({"us": {"acme-good.yar": good, name: file}})
    found = results(outcome)
    assert found["load-yara"] == "failed"
    assert name in told(outcome, "load-yara")
    assert found["lint"] == "failed"


@needs_clamscan
def test_what_engines_accept_passes(world: World) -> None:
    """Comments and CRLF in a file that is kept byte for byte, exceptions, an upper-case hash: no trap."""
    sections = {
        "acme-a.hdb": File(GOOD),
        "acme-b.ndb": File(b"Acme.Body-1:0:*:6162636465666768\n"),
        "acme-c.ign2": File(b"Acme.Body-1\n"),
        "acme-d.fp": File(b"0123456789abcdef0123456789abcdef:77:Acme.Fine-1\n"),
        "acme-e.yar": File(b"rule Good { condition: filesize == 66666 }\n"),
        "acme-f.list": File(b"bad.example\n"),
    }
    found = results(world.gate({"us": sections}))
    assert {name for name, result in found.items() if result != "passed"} == {"clean", "must-detect"}, (
        "no corpus is given"
    )


@needs_clamscan
def test_a_load_that_needs_more_memory_than_it_may_have_is_no_load(world: World) -> None:
    outcome = world.gate({"us": {"acme-a.hdb": File(GOOD)}}, replace(QUICK, mebibytes=4))
    assert results(outcome)["load-clamav"] == "failed"
    assert told(outcome, "load-clamav")


def test_a_load_that_takes_longer_than_it_may_is_no_load(world: World) -> None:
    slow = b"".join(
        b"rule R%d { strings: $a = /a.{1,900}b.{1,900}c%d/s condition: $a }\n" % (number, number)
        for number in range(3000)
    )
    outcome = world.gate({"us": {"acme-a.yar": File(slow)}}, replace(QUICK, seconds=1))
    assert results(outcome)["load-yara"] == "failed"
    assert "did not end within 1 seconds" in told(outcome, "load-yara")
