"""What each check finds in releases that load well: canaries, clean files, files of our own, samples, what is new."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from coldchain.bundle.canary import canary_name, canary_string
from coldchain.bundle.description import Section
from coldchain.engines import clamscan
from coldchain.errors import GateError, UsageError
from coldchain.monitor.taken_apart import DecodedBundle
from coldchain_server.gate import lint
from coldchain_server.gate.corpora import eicar
from coldchain_server.gate.gate import Outcome, run_gate
from coldchain_server.gate.own_files import own_files
from tests.server.feeds.engine import needs_clamscan
from tests.server.gate.worlds import EICAR_LINE, GOOD, LEAVES_OUT, QUICK, File, World, detail, results, told

SAMPLE = b"some bytes that only the operator's signature knows\n"
SOME = b"Acme.Some-1:0:*:" + SAMPLE.hex().encode() + b"\n"
ELF = b"Acme.Elf-1:0:0:7f454c46\n"
QUIET = b"rule Good { condition: filesize == 66666 }\n"
quick_own_files = pytest.mark.usefixtures("few_own_files")


def refusal(outcome: Outcome) -> GateError:
    with pytest.raises(GateError) as caught:
        outcome.require("release 2 of stable", "a reason does not help against a failure")
    return caught.value


def corpus(world: World, **files: bytes) -> Path:
    folder = (world.folder / "corpus").resolve()
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@needs_clamscan
@quick_own_files
def test_regions_that_are_the_same_are_loaded_once_and_every_canary_is_found(world: World) -> None:
    same = {"acme-a.hdb": File(GOOD), "acme-r.yar": File(QUIET)}
    other = {**same, "acme-a.hdb": File(GOOD[: GOOD.index(b"\n") + 1])}
    outcome = world.gate({"us": same, "eu": same, "jp": other}, policies={"jp": (LEAVES_OUT,)})
    assert results(outcome)["load-clamav"] == results(outcome)["load-yara"] == results(outcome)["canary"] == "passed"
    assert "5 of 5 signatures loaded of us eu," in detail(outcome, "load-clamav")
    assert "2 of 2 signatures loaded of jp" in detail(outcome, "load-clamav")
    assert "4 of 4 signatures loaded of us eu jp," in detail(outcome, "load-yara")
    assert detail(outcome, "canary").startswith("all 6 were found")


@needs_clamscan
@quick_own_files
@pytest.mark.parametrize("region", ["us", "eu"])
def test_a_canary_that_a_line_switches_off_is_missed(world: World, region: str) -> None:
    """Also that of a region whose bundle is not the one that stands for the group."""
    off = File(canary_name(region, "stable", 2).encode() + b"\n")
    same = {"acme-a.hdb": File(GOOD), "acme-b.ign2": off}
    outcome = world.gate({"us": same, "eu": same})
    assert "failed" in (results(outcome)["canary"], results(outcome)["load-clamav"])
    assert canary_name(region, "stable", 2) in told(outcome, "canary")
    # another signature that finds the same bytes does not stand in for it
    thief = b"Acme.Thief-1:0:*:" + canary_string("coldchain", region, "stable", 2)[:40].hex().encode() + b"\n"
    outcome = world.gate({"us": {**same, "acme-c.ndb": File(thief)}, "eu": {**same, "acme-c.ndb": File(thief)}})
    assert "Acme.Thief-1 was found" in told(outcome, "canary")


@needs_clamscan
@quick_own_files
def test_the_magic_of_every_program_is_caught_by_the_machines_own_files(world: World) -> None:
    """The load is well and the canary is found: only clean files tell."""
    settings = replace(QUICK, system=(Path("/usr/bin"),), system_mebibytes=2)
    outcome = world.gate({"us": {"acme-a.ndb": File(ELF)}}, settings)
    assert results(outcome)["load-clamav"] == results(outcome)["canary"] == "passed"
    assert results(outcome)["clean"] == results(outcome)["own-files"] == "failed"
    error = refusal(outcome)
    assert error.exit_code == 66
    assert "Acme.Elf-1 in /usr/bin/" in error.what
    assert "take out Acme.Elf-1 (acme-a.ndb)" in error.todo
    assert "nothing was logged or signed" in error.kept
    assert {one["check"] for one in error.checks if one["result"] == "failed"} >= {"clean", "own-files"}
    assert "/usr/bin" not in "".join(check.detail for check in outcome.checks), (
        "a manifest names no file of the machine"
    )


@needs_clamscan
@quick_own_files
@pytest.mark.parametrize("engine", ["clamav", "yara"])
def test_one_clean_file_of_the_operators_is_enough(world: World, engine: str) -> None:
    folder = corpus(world, fine=b"fine\n", theirs=SAMPLE)
    rule = b'rule Some { strings: $a = "only the operator\'s signature" condition: $a }\n'
    sections = {"acme-a.ndb": File(SOME)} if engine == "clamav" else {"acme-a.yar": File(rule)}
    outcome = world.gate({"us": sections}, replace(QUICK, clean=(folder,)))
    assert results(outcome)["clean"] == "failed"
    assert str(folder / "theirs") in told(outcome, "clean")
    assert str(folder) not in detail(outcome, "clean")
    (folder / "theirs").unlink()
    outcome = world.gate({"us": sections}, replace(QUICK, clean=(folder,)))
    assert results(outcome)["clean"] == "passed"


@needs_clamscan
@quick_own_files
def test_a_clean_file_beyond_what_clamav_looks_at_by_itself_is_looked_at(world: World) -> None:
    folder = corpus(world)
    with (folder / "large").open("wb") as file:
        file.seek(101 << 20)
        file.write(SAMPLE)
    outcome = world.gate({"us": {"acme-a.ndb": File(SOME)}}, replace(QUICK, clean=(folder,)))
    assert results(outcome)["clean"] == "failed"


OURS = {
    "signed metadata": b'"_type":"timestamp"',
    "our code": b"from coldchain_server.gate",
    "a database": b":Acme.Good-2\n",
    "bundle.json": b'"format":"coldchain-bundle-1"',
}


@needs_clamscan
@pytest.mark.parametrize("what", OURS)
@pytest.mark.parametrize("engine", ["clamav", "yara"])
def test_what_matches_a_file_of_ours_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str, engine: str
) -> None:
    metadata = world.home.public / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "timestamp.json").write_bytes(b'{"signed":{"_type":"timestamp"}}')
    for part in ("_mapped", "_programs"):  # 170 MiB that this is not about
        monkeypatch.setattr(f"coldchain_server.gate.own_files.{part}", lambda: iter(()))
    spelt = OURS[what].hex()
    sections = {"acme-good.hdb": File(GOOD), "acme-a.ndb": File(f"Acme.Ours-1:0:*:{spelt}\n".encode())}
    if engine == "yara":
        del sections["acme-a.ndb"]
        sections["acme-a.yar"] = File(f"rule Ours {{ strings: $a = {{ {spelt} }} condition: $a }}\n".encode())
    outcome = world.gate({"us": sections})
    assert results(outcome)[f"load-{engine}"] == "passed"
    assert results(outcome)["own-files"] == "failed"
    assert ("Acme.Ours-1 (" if engine == "clamav" else "Ours (") in refusal(outcome).todo


def test_engines_loader_and_interpreter_are_among_our_own_files(world: World) -> None:
    names = {path.name for path in own_files(world.home)}
    assert Path(sys.executable).resolve().name in names
    assert any(name.startswith("ld-linux") for name in names), names
    assert any(name.startswith("yara_x") for name in names)
    assert any(name.startswith(("libc.so", "libc-")) for name in names)
    assert "result.py" in names


@needs_clamscan
def test_clamav_and_its_library_are_among_them(world: World) -> None:
    names = {path.name for path in own_files(world.home)}
    assert "clamscan" in names
    assert any(name.startswith("libclamav.so") for name in names)


@needs_clamscan
def test_the_engines_own_program_is_never_matched(world: World) -> None:
    """The real own files, all of them: a signature of bytes in the middle of libclamav."""
    library = next(path for path in own_files(world.home) if path.name.startswith("libclamav.so"))
    data = library.read_bytes()
    piece = data[len(data) // 2 :][:64]
    outcome = world.gate({"us": {"acme-a.ndb": File(f"Acme.Lib-1:0:*:{piece.hex()}\n".encode())}})
    assert results(outcome)["own-files"] == "failed"
    assert str(library) in told(outcome, "own-files")


@quick_own_files
def test_a_rule_may_match_its_own_source_and_no_other(world: World) -> None:
    plain = b'rule Plain { strings: $a = "words of a web shell" condition: $a }\n'
    outcome = world.gate({"us": {"acme-a.yar": File(plain), "acme-b.yar": File(QUIET)}})
    assert results(outcome)["own-files"] == "passed"
    assert "1 YARA rules match the source that holds them" in detail(outcome, "own-files")
    other = b'rule Other { strings: $a = "filesize == 66666" condition: $a }\n'
    outcome = world.gate({"us": {"acme-a.yar": File(other), "acme-b.yar": File(QUIET)}})
    assert results(outcome)["own-files"] == "failed"
    assert len(told(outcome, "own-files").splitlines()) == 1, "only the other rule's source counts"


@needs_clamscan
@quick_own_files
def test_a_clamav_signature_may_match_no_source_whatever_its_name(world: World) -> None:
    rule = b"rule Plain { meta: words = 12 condition: filesize == 66666 }\n"
    sections = {
        "acme-a.yar": File(rule),
        "acme-b.ndb": File(b"Plain:0:*:" + b"meta: words = 12".hex().encode() + b"\n"),
    }
    outcome = world.gate({"us": sections})
    assert results(outcome)["own-files"] == "failed"


@needs_clamscan
@quick_own_files
def test_eicar_alone_is_enough_and_without_it_nothing_goes_out(world: World) -> None:
    settings = replace(QUICK, eicar=True)
    outcome = world.gate({"us": {"acme-a.hdb": File(EICAR_LINE)}}, settings)
    assert results(outcome)["must-detect"] == "passed"
    outcome = world.gate({"us": {"acme-a.hdb": File(GOOD)}}, settings)
    assert results(outcome)["must-detect"] == "failed"
    assert "eicar = false" in refusal(outcome).todo
    assert not [path for path in world.home.directory.rglob("*") if path.is_file() and eicar() in path.read_bytes()]


@needs_clamscan
@quick_own_files
def test_every_sample_must_be_found_by_one_engine_at_least(world: World) -> None:
    folder = corpus(world, one=SAMPLE, two=b"a second sample, for YARA\n")
    settings = replace(QUICK, must_detect=(folder,))
    rule = File(b'rule Two { strings: $a = "second sample" condition: $a and filesize < 100 }\n')
    outcome = world.gate({"us": {"acme-a.ndb": File(SOME), "acme-a.yar": rule}}, settings)
    assert results(outcome)["must-detect"] == "passed"
    outcome = world.gate({"us": {"acme-a.ndb": File(SOME), "acme-a.yar": File(QUIET)}}, settings)
    assert results(outcome)["must-detect"] == "failed"
    assert told(outcome, "must-detect") == f"nothing is found in {folder / 'two'}"


@needs_clamscan
@quick_own_files
def test_a_sample_that_a_policy_leaves_out_is_explained_and_one_that_none_does_is_not(world: World) -> None:
    settings = replace(QUICK, must_detect=(corpus(world, one=SAMPLE),))
    whole, less = {"acme-a.ndb": File(SOME), "acme-g.hdb": File(GOOD)}, {"acme-g.hdb": File(GOOD)}
    outcome = world.gate({"us": whole, "jp": less}, settings, {"jp": (LEAVES_OUT,)})
    assert results(outcome)["must-detect"] == "passed"
    assert "1 not in jp, by its policies" in detail(outcome, "must-detect")
    outcome = world.gate({"us": whole, "jp": less}, settings)
    assert results(outcome)["must-detect"] == "failed"


@needs_clamscan
@quick_own_files
def test_what_is_new_and_what_is_gone_is_counted(world: World) -> None:
    settings = replace(QUICK, must_detect=(corpus(world, one=SAMPLE, two=b"another one that is found\n"),))
    two = b"Acme.Two-1:0:*:" + b"another one that is found".hex().encode() + b"\n"
    first = world.gate({"us": {"acme-a.ndb": File(SOME)}}, settings)
    assert "no release before this one" in detail(first, "new-detections")
    both = world.gate({"us": {"acme-a.ndb": File(SOME + two)}}, settings, before=first.found)
    assert "2 samples compared with the release before, 1 new (Acme.Two-1), 0 gone" in detail(both, "new-detections")
    back = world.gate({"us": {"acme-a.ndb": File(SOME)}}, settings, before=both.found)
    assert "0 new, 1 gone (Acme.Two-1)" in detail(back, "new-detections")


@needs_clamscan
@quick_own_files
def test_an_engine_that_passes_over_a_file_has_not_found_it_clean(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made true by a program between, which leaves the last name out of the list that it is given."""
    real = clamscan.find_program(None)
    between = world.folder / "clamscan"
    between.write_text(
        '#!/bin/sh\nfor one do case "$one" in --file-list=*) sed -i "\\$d" "${one#--file-list=}";; esac; done\n'
        f'exec {real} "$@"\n'
    )
    between.chmod(0o755)
    monkeypatch.setenv("PATH", f"{world.folder}:/usr/bin:/bin")
    folder = corpus(world, fine=b"fine\n")
    outcome = world.gate({"us": {"acme-a.hdb": File(GOOD)}}, replace(QUICK, clean=(folder,)))
    assert results(outcome)["load-clamav"] == "failed"
    assert "files were scanned" in told(outcome, "load-clamav")


@pytest.mark.parametrize("key", ["clean", "must_detect"])
def test_a_corpus_that_is_not_there_is_no_empty_one(world: World, key: str) -> None:
    empty = world.folder / "empty"
    empty.mkdir()
    for path in (empty, world.folder / "nowhere"):
        with pytest.raises(UsageError, match=key):
            world.gate({"us": {"acme-a.yar": File(QUIET)}}, replace(QUICK, **{key: (path,)}))  # type: ignore[arg-type]


def test_what_is_served_must_be_what_the_manifest_names(world: World) -> None:
    order = world.order({"us": {"acme-a.hdb": File(GOOD)}})
    data = order.files["us"].read_bytes()
    for at in range(0, len(data), 7):
        order.files["us"].write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(GateError, match="not the one that the manifest names"):
            run_gate(world.home, order, QUICK)
    assert not (world.home.gate / "work").exists()


@quick_own_files
def test_lists_alone_give_engines_nothing_to_do(world: World) -> None:
    outcome = world.gate({"us": {"acme-a.list": File(b"bad.example\n")}})
    assert set(results(outcome).values()) == {"passed"}
    assert "no bundle has a section for an engine" in detail(outcome, "clean")


@quick_own_files
def test_a_section_that_was_in_order_is_not_looked_at_again_and_another_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    real = lint._problems

    def counted(bundle: DecodedBundle, section: Section) -> list[str]:
        looked.append(section.name)
        return real(bundle, section)

    monkeypatch.setattr(lint, "_problems", counted)
    cache = world.folder / "cache"
    sections = {"acme-a.list": File(b"bad.example\n"), "acme-b.yar": File(QUIET)}
    for expected in (["acme-a.list", "acme-b.yar", "coldchain-canary.yar"], []):
        looked.clear()
        assert results(world.gate({"us": sections}, cache=cache))["lint"] == "passed"
        assert looked == expected
    worse = {**sections, "acme-b.yar": File(b"rule Good { condition: nothing_known }\n")}
    for _ in range(2):
        looked.clear()
        assert results(world.gate({"us": worse}, cache=cache))["lint"] == "failed"
        assert looked == ["acme-b.yar"], "what was not in order is not remembered"
    looked.clear()
    world.gate({"us": sections})
    assert len(looked) == 3, "an approver takes nobody's word"
