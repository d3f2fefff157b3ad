"""``coldchain mirror`` through the command line: words, JSON, exit codes, what is remembered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coldchain import cli
from coldchain.mirror.directory import MirrorDirectory
from tests.client.agent.publisher import FIRST, SECOND, Publisher
from tests.client.tlog.memory_log import MemoryLog


class Place:
    def __init__(self, folder: Path) -> None:
        self.publisher = Publisher(folder / "publisher", log=MemoryLog())
        self.tree, self.root, self.mirror = folder / "tree", folder / "root.json", folder / "mirror"
        self.root.write_bytes(self.publisher.repository.pinned)
        self.publish(1, FIRST)

    def publish(self, release: int, contents: dict[str, bytes]) -> None:
        self.publisher.publish(release, contents)
        self.publisher.write(self.tree)

    @property
    def first(self) -> list[str]:
        return ["--root", str(self.root), "--region", "us", "--url", str(self.tree)]

    def run(self, *words: str) -> int:
        return cli.run(["mirror", str(self.mirror), *words])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def answer(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_first_run_says_everything_and_later_ones_nothing(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.run(*place.first, "--packs", "--grace", "5") == 0
    said = capsys.readouterr().out
    assert said.startswith("mirrored: us stable 1\n")
    assert "good until" in said
    place.publish(2, SECOND)
    assert place.run("--json") == 0
    found = answer(capsys)
    assert found["action"] == "updated"
    assert found["releases"] == [{"region": "us", "channel": "stable", "release": 2}]
    assert found["packs"] == ["packs/us/stable/latest.from-1.pack", "packs/us/stable/latest.pack"]
    assert found["served_bytes"] > found["new_bytes"] > 0
    config = MirrorDirectory(place.mirror).config()
    assert config is not None
    assert (config.grace, config.packs, config.regions) == (5, True, ("us",))
    assert place.run("--region", "jp", "--region", "us", "--no-packs", "--json") == 0
    assert [one["region"] for one in answer(capsys)["releases"]] == ["jp", "us"]
    endpoint = ["--root", str(place.root), "--region", "jp", "--url", str(place.mirror)]
    assert cli.run(["init", str(tmp_path / "endpoint"), *endpoint]) == 0
    assert cli.run(["update", str(tmp_path / "endpoint")]) == 0


def test_what_is_missing_or_contradicts_is_said(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = place.first
    for left_out in (0, 2, 4):
        assert place.run(*words[:left_out], *words[left_out + 2 :]) == 2
        assert "a first run needs --root, --region and --url" in capsys.readouterr().err
    assert not place.mirror.exists()
    assert place.run(*words, "--grace", "99999") == 2
    assert place.run(*words, "--region", "root") == 2
    assert place.run(*words[2:], "--root", str(tmp_path / "nothing")) == 2
    assert place.run(*words) == 0
    other = Publisher(tmp_path / "other", regions=("us",)).repository
    other.bump("root")
    (tmp_path / "other.json").write_bytes(other.publish_root())
    for refused in (["--root", str(tmp_path / "other.json")], ["--product", "another"]):
        capsys.readouterr()
        assert place.run(*refused) == 2
        assert "another root or product" in capsys.readouterr().err


def test_each_cause_has_its_code(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.run(*place.first) == 0
    assert place.run("--url", "http://127.0.0.1:9", "--json") == 20
    capsys.readouterr()
    assert place.run("--url", str(tmp_path / "nowhere")) == 20
    assert "kept: what the mirror serves stays as it is" in capsys.readouterr().err
    assert place.run("--url", str(place.tree)) == 0
    with MirrorDirectory(place.mirror).own.locked():
        assert place.run() == 42
    timestamp = place.tree / "metadata/timestamp.json"
    timestamp.write_bytes(timestamp.read_bytes().replace(b'"version":2', b'"version":9'))
    assert place.run() == 12
    (place.mirror / ".mirror/mirror.json").write_bytes(b"{}")
    assert place.run() == 40


def test_a_policy_of_ones_own_is_remembered_and_given_up_only_when_told(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.publisher.log is not None
    strict = place.publisher.log.policy.replace("all-of-us 2", "all-of-us 1")
    (tmp_path / "policy").write_text(strict)
    assert place.run(*place.first, "--policy", str(tmp_path / "policy")) == 0
    stranger = MemoryLog("log.example/other", witnesses=("wit.example/three",), need=1)
    (tmp_path / "stranger").write_text(stranger.policy)
    assert place.run("--policy", str(tmp_path / "stranger")) == 16
    assert place.run() == 16
    assert place.run("--policy", "root") == 0
    assert place.run() == 0
    capsys.readouterr()
