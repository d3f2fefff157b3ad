"""``coldchain-server demo`` runs to its end in a fresh directory, and its story holds every refusal it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from coldchain_server import demo

pytestmark = pytest.mark.timeout(400)  # it runs whole, beside another process of the suite
PROGRAM = Path(sys.executable).parent / "coldchain-server"
REFUSALS = [
    ("It serves the files of us", 12, 1),
    ("It flips one bit in every bundle", 12, 1),
    ("It replays the timestamp", 13, 2),
    ("a special release for one endpoint", 16, 2),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    directory = tmp_path_factory.mktemp("demo")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COLDCHAIN_")}
    done = subprocess.run(
        [PROGRAM, "demo"], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout  # no colours into a pipe
    return done.stdout, directory / "demo-run"


def verify(directory: Path, endpoint: str) -> int:
    program = PROGRAM.with_name("coldchain")
    return subprocess.run([program, "verify", endpoint], cwd=directory, capture_output=True, check=False).returncode


def test_it_tells_its_chapters_to_the_end(told: tuple[str, Path]) -> None:
    chapters = re.findall(r"^== (.*)$", told[0], re.MULTILINE)
    assert [chapter[:2] for chapter in chapters] == ["1.", "2.", "3.", "4.", "5.", "6.", "Do"]


@pytest.mark.parametrize(("words", "code", "release"), REFUSALS, ids=[words for words, _, _ in REFUSALS])
def test_each_lie_is_refused_and_the_old_set_stands(
    told: tuple[str, Path], words: str, code: int, release: int
) -> None:
    story = told[0].partition(words)[2]
    refused, _, stands = story.partition("ok  ")
    assert "coldchain: " in refused  # the program's own words, not only the demo's
    assert re.match(rf"refused with exit code {code}\n\s+ok  endpoint-jp stands on release {release}, whole", stands)


def test_the_delta_is_far_smaller_and_a_poll_is_one_request(told: tuple[str, Path]) -> None:
    found = re.search(r"delta 1 -> 2: ([0-9,]+) bytes; the full bundle: ([0-9,]+) bytes", told[0])
    assert found is not None
    delta, full = (int(text.replace(",", "")) for text in found.groups())
    assert delta * 2 < full


def test_it_says_what_differs_between_regions_and_why(told: tuple[str, Path]) -> None:
    story = told[0].partition("What differs between the regions, and why:")[2].partition("== 4.")[0]
    assert "endpoint-us" in story
    assert "endpoint-jp" in story
    assert "matches a printer driver sold only in Japan" in story


def test_what_it_leaves_can_be_looked_at_as_it_says(told: tuple[str, Path]) -> None:
    directory = told[1]
    for region in ("us", "jp"):
        assert verify(directory, f"endpoint-{region}") == 0
    section = next(
        one for one in sorted((directory / "endpoint-us" / "current").iterdir()) if one.name != "bundle.json"
    )
    section.chmod(0o644)
    data = section.read_bytes()
    section.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert verify(directory, "endpoint-us") == 40


def test_it_does_not_touch_what_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    done = subprocess.run(
        [PROGRAM, "demo", "--directory", "mine"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stdout
    assert "files that no demo made" in done.stderr
    assert (tmp_path / "mine" / "letter").read_text() == "dear"


def test_it_runs_again_over_what_an_earlier_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_journey", lambda _: None)
    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "new", tmp_path / "empty"):
        for _ in range(2):
            demo.main(directory)
            assert not (directory / "left").exists()
            (directory / "left").write_text("by the demo before")
