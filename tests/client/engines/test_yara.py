"""The YARA engine with real yara-x: what compiles is counted, what matches wrongly is refused, the view is what is scanned with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from coldchain.bundle.canary import canary_section
from coldchain.bundle.description import Section
from coldchain.engines import yara
from coldchain.engines.interface import Corpora, LoadReport, LoadTest, canary_of
from coldchain.engines.settings import OneEngine
from coldchain.engines.yara import Yara
from coldchain.errors import EngineDownError, EngineError
from tests.client.engines.endpoints import BETTER, GOOD, make_endpoint
from tests.client.tuf.repository import digest

CANARY = canary_of("yara", "coldchain", "us", "stable", 7)
RULES = {"a.yar": b'rule A { strings: $a = "evil bytes" condition: $a }\nprivate rule B { condition: true }\n'}


def tried(
    path: Path, files: Mapping[str, bytes], corpora: Corpora | None = None, settings: OneEngine | None = None
) -> LoadReport:
    folder, work = path / "set", path / "work"
    for one in (folder, work):
        one.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    made = canary_section("yara", "coldchain", "us", "stable", 7)
    assert made is not None
    sections = []
    for name, data in {**files, made[0]: made[1]}.items():
        (folder / name).write_bytes(data)
        sections.append(Section(name, "file", "yara", data.count(b"rule "), len(data), digest(data)))
    return Yara(settings or OneEngine("yara", "yara")).load_test(
        LoadTest(folder, sections, CANARY, corpora or Corpora(), work)
    )


def test_good_rules(tmp_path: Path) -> None:
    report = tried(tmp_path, RULES)
    assert (report.problem, report.expected, report.loaded, report.canary) == ("", 3, 3, True)
    assert report.version.startswith("yara-x ")
    assert report.clean_files >= 1


def test_two_files_may_have_a_rule_of_one_name(tmp_path: Path) -> None:
    assert tried(tmp_path, {**RULES, "b.yar": RULES["a.yar"]}).problem == ""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"rule A { condition: nosuch }\n", "a.yar"),
        (b"rule A { condition: true }\n", "clean file"),
        (b"rule A { condition: uint32(0) == 0x464c457f }\n", "clean files were detected"),
        (b"rule A { condition: false } \xff\n", "a.yar"),
        (b'include "b.yar"\nrule A { condition: false }\n', "a.yar"),
        (b"// rule A\nrule B { condition: false }\n", "2 of 3 signatures"),
    ],
)
def test_bad_rules(source: bytes, words: str, tmp_path: Path) -> None:
    assert words in tried(tmp_path, {"a.yar": source}).problem


def test_corpora(tmp_path: Path) -> None:
    good, bad = tmp_path / "good\n\udcff", tmp_path / "bad"
    good.write_bytes(b"good")
    bad.write_bytes(b"some evil bytes")
    assert tried(tmp_path, RULES, Corpora((good,), (bad,))).problem == ""
    report = tried(tmp_path, RULES, Corpora((bad,)))
    assert report.problem == f"1 clean file was detected: {bad}: A"
    other = tmp_path / "other"
    other.write_bytes(b"good")
    report = tried(tmp_path, RULES, Corpora((), (bad, other)))
    assert (report.must_detect, report.missed, report.missed_names) == (2, 1, [str(other)])


def test_limits(tmp_path: Path) -> None:
    heavy = b"".join(
        b"rule R%d { strings: $a = /a%d[a-z]{1,90}b{2,50}/ condition: $a }\n" % (n, n) for n in range(1500)
    )
    small = OneEngine("yara", "yara", load_bytes=16 << 20)
    assert tried(tmp_path, {"a.yar": heavy}, settings=small).problem
    assert tried(tmp_path, {"a.yar": heavy}).problem == ""


def test_without_yara_x_nothing_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yara, "find_spec", lambda _name: None)
    with pytest.raises(EngineDownError) as found:
        tried(tmp_path, RULES)
    assert "coldchain[yara]" in found.value.todo


def test_an_endpoint_with_yara_and_clamscan_goes_from_release_to_release(tmp_path: Path) -> None:
    """No daemon: each scan loads the view itself, and that is what the proof does."""
    from tests.server.feeds.engine import CLAMSCAN

    engines = [OneEngine("yara", "yara", view=tmp_path / "elsewhere" / "yara")]
    engines += [OneEngine("clamav", "clamav")] if CLAMSCAN else []
    endpoint = make_endpoint(tmp_path, *engines)
    done = endpoint.update()
    assert done.error is None
    assert [one.action for one in done.engines] == ["activated"] * len(engines)
    view = tmp_path / "elsewhere" / "yara" / "current"
    assert sorted(one.name for one in view.iterdir()) == ["coldchain-canary.yar", "rules.yar"]

    # a release whose rules are bad: YARA keeps what it has, and the other engine goes on
    endpoint.publish(2, BETTER | {"rules.yar": b"rule Test { condition: true }\n"})
    done = endpoint.update()
    assert type(done.error) is EngineError
    assert [one.release for one in done.engines] == [1, 2][: len(engines)]
    assert (view / "rules.yar").read_bytes() == GOOD["rules.yar"]
    assert endpoint.memory("yara").refused[-1].release == 2

    endpoint.publish(3, BETTER)
    done = endpoint.update()
    assert done.error is None
    assert [one.release for one in done.engines] == [3] * len(engines)


def test_a_bundle_without_rules_is_nothing_for_yara(tmp_path: Path) -> None:
    endpoint = make_endpoint(tmp_path, OneEngine("yara", "yara"))
    assert endpoint.update().error is None
    endpoint.publish(2, {name: data for name, data in GOOD.items() if name != "rules.yar"})
    error = endpoint.update().error
    assert error is not None
    assert "holds nothing for yara" in error.what
    assert endpoint.linked("yara") == 1
