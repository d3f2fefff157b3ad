"""The gate on the way of a release: what fails goes nowhere, what is not run needs a public reason, and anybody may try again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from coldchain.bundle.manifest import GateCheck, parse_manifest
from coldchain.errors import GateError, StateError
from coldchain_server.gate.gate import Outcome, require_gate
from coldchain_server.gate.new_detections import Detections, parse_detections
from coldchain_server.gate.result import CHECKS
from coldchain_server.home import Home
from coldchain_server.release.build import Built, build
from coldchain_server.release.gate_again import GateAgain, gate_again
from tests.client.tuf.repository import NOW
from tests.server import origins
from tests.server.feeds.engine import needs_clamscan

SAMPLE = b"some bytes that a signature of the feed matches\n"
BODY = {"body.ndb": b"Acme.Some-1:0:*:" + SAMPLE.hex().encode() + b"\n"}
RULES = {"rules.yar": b"rule Quiet { condition: filesize == 66666 }\n"}


@pytest.fixture(autouse=True)
def few_own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the 170 MiB of engines and loader: tests/server/gate is about them."""
    monkeypatch.setattr("coldchain_server.gate.gate.own_files", lambda home: (Path(__file__).resolve(),))


def configure(home: Home, **settings: str) -> None:
    """``[gate]`` of this origin, values as TOML."""
    lines = {"system": "[]", "eicar": "false", "clean": f'["{Path(__file__).resolve()}"]', **settings}
    text = "\n".join(f"{name} = {value}" for name, value in lines.items())
    (home.directory / "settings.toml").write_text(f"keep_generations = 2\n[gate]\n{text}\n")


def corpus(home: Home) -> Path:
    folder = home.directory.resolve().parent / "corpus"
    folder.mkdir(exist_ok=True)
    (folder / "sample").write_bytes(SAMPLE)
    return folder


async def built(home: Home, reason: str = "") -> Built:
    async with home.catalogue() as catalogue:
        return await build(home, catalogue, channel="stable", now=NOW, pull_feeds=False, without_gate=reason)


async def fed(home: Home, files: dict[str, bytes]) -> None:
    """The feed holds these; what is pulled is what :func:`built` takes."""
    from coldchain_server.catalogue.interface import Feed
    from coldchain_server.feeds.pull import pull
    from coldchain_server.signing.roles import utc_text

    async with home.catalogue() as catalogue:
        feed = Feed("acme", "clamav", str(origins.write_feed(home, files)), False)
        await pull(home, catalogue, feed, taken=utc_text(NOW))


async def again(home: Home, number: int) -> GateAgain:
    async with home.catalogue() as catalogue:
        return await gate_again(home, catalogue, "stable", number)


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@needs_clamscan
async def test_what_fails_is_built_logged_and_published_nowhere(published_home: Home) -> None:
    home = published_home
    await fed(home, origins.FIRST | BODY)
    configure(home, clean=f'["{corpus(home)}"]', must_detect="[]")
    before = tree(home.public)
    with pytest.raises(GateError, match=r"clean: .*\n.*Acme\.Some-1 in .*sample"):
        await built(home, "no reason helps")
    assert await origins.states(home) == {1: "published"}
    assert tree(home.public) == before
    assert not list(home.drafts.glob("*"))
    assert not (home.gate / "work").exists()
    configure(home, clean="[]", must_detect=f'["{corpus(home)}"]', without='"there is no clean corpus"')
    found = await built(home)
    assert found.number == 2, "the number was not used up"
    results = {check.check: check.result for check in found.manifest.gate}
    assert results["must-detect"] == "passed"


async def test_what_is_not_run_needs_a_reason_that_everybody_reads(
    new_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = new_home
    monkeypatch.setenv("PATH", "/nowhere")
    await fed(home, origins.FIRST | RULES)
    configure(home)
    with pytest.raises(GateError, match="load-clamav: ClamAV: clamscan is not installed") as caught:
        await built(home)
    assert "--without-gate" in caught.value.todo
    assert {one["check"] for one in caught.value.checks if one["result"] == "not-run"} == {"load-clamav", "must-detect"}
    assert await origins.states(home) == {}
    found = await built(home, "ClamAV is not installed on this machine")
    assert found.manifest.without_gate == "ClamAV is not installed on this machine"
    assert [check.check for check in found.manifest.gate] == [*CHECKS, "without-gate"]
    await origins.log_built(home, 1)
    await origins.approve_release(home, 1)
    await origins.publish_release(home, 1)
    manifest = origins.read(home, "us").manifest
    assert manifest.without_gate == "ClamAV is not installed on this machine"
    assert manifest.gate_words() == "gate: of 8 checks 6 passed, 2 not run"
    assert any("load-clamav not run" in line for line in manifest.gate_exceptions())


@needs_clamscan
async def test_a_reason_that_is_not_needed_is_not_published(new_home: Home) -> None:
    home = new_home
    folder = corpus(home)
    await fed(home, origins.FIRST | BODY | RULES)
    configure(home, must_detect=f'["{folder}"]', without='"a standing reason"')
    found = await built(home, "and one of the command line")
    assert found.manifest.without_gate is None
    assert {check.result for check in found.manifest.gate} == {"passed"}
    assert "of jp" not in next(one.detail for one in found.manifest.gate if one.check == "load-yara")


def _without(checks: tuple[GateCheck, ...], name: str, result: str | None) -> tuple[GateCheck, ...]:
    if result is None:
        return tuple(check for check in checks if check.check != name)
    return tuple(replace(check, result=result) if check.check == name else check for check in checks)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("result", [None, "failed", "not-run"])
async def test_a_manifest_without_a_whole_gate_is_refused(published_home: Home, name: str, result: str | None) -> None:
    async with published_home.catalogue() as catalogue:
        release = await catalogue.release("stable", 1)
    assert release is not None
    manifest = parse_manifest(published_home.content.get(release.manifest))
    require_gate(manifest)
    checks = tuple(GateCheck(check, "passed", "well") for check in CHECKS)
    require_gate(replace(manifest, gate=checks))
    with pytest.raises(GateError, match=name):
        require_gate(replace(manifest, gate=_without(checks, name, result)))


@pytest.mark.parametrize("step", ["log", "approve", "publish"])
async def test_no_step_takes_a_release_that_was_not_tried(
    new_home: Home, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """As a program of before, or a builder that means ill, would have made it: each step looks for itself."""
    monkeypatch.setattr(Outcome, "require", lambda self, what, without: self.checks[:1])
    steps = ["log", "approve", "publish"]
    for earlier in steps[: steps.index(step)]:
        monkeypatch.setattr(f"coldchain_server.release.{earlier}.require_gate", lambda manifest: None)
    await origins.only_build(new_home, origins.FIRST)
    before = tree(new_home.public)

    async def go_on() -> None:
        await origins.log_built(new_home, 1)
        await origins.approve_release(new_home, 1)
        await origins.publish_release(new_home, 1)

    with pytest.raises(GateError, match="no good word of the gate"):
        await go_on()
    assert await origins.states(new_home) == {1: ["built", "logged", "approved"][steps.index(step)]}
    if step == "log":
        assert tree(new_home.public) == before


@needs_clamscan
async def test_anybody_may_try_it_again_at_every_step(new_home: Home) -> None:
    home = new_home
    folder = corpus(home)
    await fed(home, origins.FIRST | BODY)
    configure(home, must_detect=f'["{folder}"]')
    claimed = (await built(home)).manifest.gate
    for step in (None, origins.log_built, origins.approve_release, origins.publish_release):
        if step is not None:
            await step(home, 1)
        found = await again(home, 1)
        assert found.error is None
        assert [said for _, said in found.rows()] == list(claimed)
        assert [here.result for here, _ in found.rows()] == [said.result for said in claimed]
    # what the publisher calls clean is found here: the approver's own corpus decides
    configure(home, clean=f'["{folder}"]')
    error = (await again(home, 1)).error
    assert error is not None
    assert "Acme.Some-1" in error.todo
    assert error.kept == "nothing was changed and nothing signed"


async def test_only_what_the_manifest_names_is_tried_again(built_home: Home) -> None:
    home = built_home
    path = home.draft("stable", 2) / "targets" / "us" / "full.ccd"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(GateError, match=r"region us: .* not the one that the manifest names"):
        await again(home, 2)
    path.unlink()
    with pytest.raises(StateError, match="the full bundle of us is not there"):
        await again(home, 2)
    with pytest.raises(StateError, match="does not exist"):
        await again(home, 3)


@needs_clamscan
async def test_what_the_release_before_found_is_known_with_its_record_and_without(new_home: Home) -> None:
    home = new_home
    folder = corpus(home)
    await fed(home, origins.FIRST | BODY)
    configure(home, must_detect=f'["{folder}"]')
    await built(home)
    record = home.detections("stable", 1)
    digest = hashlib.sha256(SAMPLE).hexdigest()
    assert parse_detections(record.read_bytes()) == Detections(
        frozenset({"clamav"}), {digest: frozenset({"clamav Acme.Some-1"})}
    )
    await origins.log_built(home, 1)
    await origins.approve_release(home, 1)
    await origins.publish_release(home, 1)
    await fed(home, origins.FIRST | {"body.ndb": BODY["body.ndb"].replace(b"Some-1", b"Other-1")})
    for kept in (record.read_bytes(), b"{}", None):
        if kept is None:
            record.unlink()
        else:
            record.write_bytes(kept)
        found = {check.check: check.detail for check in (await built(home)).manifest.gate}
        words = "1 samples compared with the release before, 1 new (Acme.Other-1), 1 gone (Acme.Some-1)"
        assert words in found["new-detections"]
        async with home.catalogue() as catalogue:
            await catalogue.forget_release("stable", 2)
