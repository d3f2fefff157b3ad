"""``coldchain pack``, ``update --pack`` and ``verify FILE`` through the command line: words, JSON, exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from coldchain import cli
from tests.client.agent.publisher import FIRST, SECOND, Publisher
from tests.client.tlog.memory_log import MemoryLog


class Stick:
    """A published tree with two releases, an endpoint at the first, and a pack between them."""

    def __init__(self, folder: Path) -> None:
        self.publisher = Publisher(folder / "publisher", log=MemoryLog())
        self.tree, self.root, self.endpoint = folder / "tree", folder / "root.json", folder / "endpoint"
        self.pack = folder / "a.pack"
        self.root.write_bytes(self.publisher.repository.pinned)
        self.publish(1, FIRST)
        words = ["--root", str(self.root), "--region", "us", "--url", str(self.tree)]
        assert cli.run(["init", str(self.endpoint), *words]) == 0
        assert cli.run(["update", str(self.endpoint)]) == 0
        self.publish(2, SECOND)

    def publish(self, release: int, contents: dict[str, bytes]) -> None:
        self.publisher.publish(release, contents)
        self.publisher.write(self.tree)

    def make(self, *words: str) -> int:
        fixed = ["--root", str(self.root), "--region", "us", "-o", str(self.pack)]
        return cli.run(["pack", str(self.tree), *fixed, *words])


@pytest.fixture
def stick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Stick:
    made = Stick(tmp_path)
    capsys.readouterr()
    return made


def test_from_a_mirror_over_a_stick_to_an_endpoint(stick: Stick, capsys: pytest.CaptureFixture[str]) -> None:
    assert stick.make("--from", "1") == 0
    out = capsys.readouterr().out
    assert "release 2 of region us, the delta from release 1" in out
    assert "bytes of evidence" in out
    assert "take it to the endpoints before" in out
    assert cli.run(["verify", str(stick.pack), "--root", str(stick.root)]) == 0
    out = capsys.readouterr().out
    assert "BAD" not in out
    assert "note age: the newest cosignature is" in out
    assert "the pack brings release 2 of region us, from release 1, as signed and logged" in out
    assert cli.run(["update", str(stick.endpoint), "--pack", str(stick.pack)]) == 0
    assert capsys.readouterr().out.startswith("updated: release 2, was 1, as a delta")
    assert cli.run(["update", str(stick.endpoint), "--pack", str(stick.pack)]) == 0
    assert capsys.readouterr().out.startswith("current: release 2")


def test_json(stick: Stick, capsys: pytest.CaptureFixture[str]) -> None:
    assert stick.make("--json") == 0
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (made["release"], made["from"]) == (2, None)
    assert made["content_bytes"] + made["overhead_bytes"] == stick.pack.stat().st_size
    assert cli.run(["verify", str(stick.pack), "--root", str(stick.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["genuine"], found["release"], found["region"]) == (True, True, 2, "us")
    assert found["newest_cosignature"]


def test_a_pack_for_others_a_stranger_and_a_strict_policy(
    stick: Stick, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert stick.make() == 0
    assert cli.run(["verify", str(stick.pack), "--root", str(stick.root), "--region", "jp"]) == 12
    assert cli.run(["verify", str(stick.pack), "--root", str(stick.root), "--channel", "early"]) == 12
    log = stick.publisher.log
    assert log is not None
    third = MemoryLog(witnesses=("wit.example/three",)).keys[0]
    strict = tmp_path / "policy"
    strict.write_text(log.policy.replace("quorum all-of-us", f"witness w9 {third.public.vkey}\nquorum w9"))
    capsys.readouterr()
    assert cli.run(["verify", str(stick.pack), "--root", str(stick.root), "--policy", str(strict)]) == 16
    assert "BAD  public log: log policy: no quorum of witnesses: w9" in capsys.readouterr().out
    assert stick.make("--policy", str(strict)) == 16
    other = tmp_path / "other.json"
    other.write_bytes(Publisher(tmp_path / "other", regions=("us", "fr")).repository.pinned)
    if other.read_bytes() != stick.root.read_bytes():
        assert cli.run(["verify", str(stick.pack), "--root", str(other)]) != 0


def test_a_wrong_command_line_touches_nothing(stick: Stick, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert stick.make() == 0
    text = tmp_path / "text"
    text.write_text("no pack")
    os.mkfifo(tmp_path / "fifo")
    for words in (
        ["verify", str(stick.pack)],
        ["verify", str(text), "--root", str(stick.root)],
        ["verify", str(stick.endpoint), "--root", str(stick.root)],
        ["verify", str(stick.pack), "--root", str(text)],
        ["verify", str(stick.pack), "--root", str(tmp_path / "nothing")],
        ["update", str(stick.endpoint), "--pack", str(tmp_path / "nothing")],
        ["update", str(stick.endpoint), "--pack", str(tmp_path / "fifo")],
        ["update", str(stick.endpoint), "--pack", str(stick.pack), "--url", str(stick.tree)],
        ["pack", str(stick.tree), "--root", str(text), "--region", "us", "-o", str(stick.pack)],
        ["pack", str(stick.tree), "--root", str(stick.root), "--region", "us", "-o", str(tmp_path / "no" / "where")],
    ):
        assert cli.run(words) == 2, words
        assert "next:" in capsys.readouterr().err
    assert cli.run(["update", str(stick.endpoint), "--pack", str(text)]) == 12
    assert "release 1 stays in use" in capsys.readouterr().err
    assert cli.run(["update", str(stick.endpoint), "--pack", str(stick.pack)]) == 0
