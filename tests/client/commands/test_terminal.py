"""What a person sees: colours and tables on a terminal of any width, the same plain bytes in a pipe, and nothing that a name can do."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from coldchain.commands import terminal
from coldchain.commands.view import Checks, Column, Fact, Facts, Grid, Lines, Listed, Verdict, facts, view
from coldchain.verify import Check
from tests.client.test_cli import FIRST, SECOND, Endpoint

PROGRAM = Path(sys.executable).parent / "coldchain"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ESCAPE = "\x1b]0;owned\x07"
# what a table says in its own way (counts, signs), and times, which go on
_LAID_OUT = re.compile(r"[+~|…-]?[\d,]*|note|section|changed|added|removed|\d{4}-\d\d-\d\d.*|\d\d:\d\d.*")
COMMANDS = [
    ["status"],
    ["verify"],
    ["diff", "1", "2"],
    ["explain", "Acme.Body-1"],
    ["receipt"],
    ["update"],
    ["explain", f"{ESCAPE}.example"],
]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    made = Endpoint(tmp_path_factory.mktemp("endpoint"))
    made.publish(1, FIRST)
    assert made.init() == 0
    assert made.run("update") == 0
    made.publish(2, SECOND)
    assert made.run("update") == 0
    return made


def environment(**changed: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES", "TERM")}
    return {**kept, "TERM": "xterm-256color", **changed}


def on_terminal(words: list[str], width: int, **changed: str) -> tuple[str, int]:
    """What a terminal of that width gets, and the exit code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=environment(**changed)) as process:
        os.close(slave)
        out = bytearray()
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # the last one closed it
                break
            if not data:
                break
            out += data
        os.close(master)
    return out.decode().replace("\r\n", "\n"), process.returncode


def in_pipe(words: list[str], **changed: str) -> tuple[bytes, int]:
    done = subprocess.run(words, capture_output=True, env=environment(**changed), check=False)
    return done.stdout, done.returncode


def line_of(endpoint: Endpoint, words: list[str]) -> list[str]:
    return [str(PROGRAM), words[0], str(endpoint.directory), *words[1:]]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_every_width_shows_everything_and_no_line_is_wider(endpoint: Endpoint, words: list[str]) -> None:
    plain, code = in_pipe(line_of(endpoint, words))
    for width in (40, 80, 200) if words[0] in ("status", "verify", "diff") else (40,):
        shown, found = on_terminal(line_of(endpoint, words), width)
        assert found == code
        assert COLOUR.search(shown)
        bare = COLOUR.sub("", shown)
        assert "\x1b" not in bare, "only colours: nothing of what a feed holds moves the cursor"
        assert "\x07" not in bare
        for line in bare.split("\n"):
            assert len(line) <= width, (width, line)
        # every word of the plain answer is there, however it is laid out
        squeezed = re.sub(r"\s+", "", bare)
        for word in plain.decode().replace("ok  ", "").split():
            word = word.strip("():,;")
            if not _LAID_OUT.fullmatch(word):
                assert word in squeezed, (width, word)


@pytest.mark.parametrize("words", [["status"], ["diff", "1", "2"], ["verify"]], ids=lambda words: words[0])
def test_a_pipe_gets_the_same_bytes_whatever_the_environment_says(endpoint: Endpoint, words: list[str]) -> None:
    plain = in_pipe(line_of(endpoint, words))
    assert b"\x1b" not in plain[0]
    for changed in ({"NO_COLOR": "1", "COLUMNS": "20", "TERM": "dumb"}, {"FORCE_COLOR": "1", "LINES": "1"}):
        again = in_pipe(line_of(endpoint, words), **changed)
        assert _still(again[0]) == _still(plain[0])
        assert again[1] == plain[1]


def _still(data: bytes) -> bytes:
    """Without what differs from one run to the next."""
    return re.sub(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\dZ)?|[\d,]+ (?=bytes)", b"T", data)


@pytest.mark.parametrize("changed", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_who_wants_no_colours_gets_the_plain_text_on_a_terminal_too(
    endpoint: Endpoint, changed: dict[str, str]
) -> None:
    for words in (["diff", "1", "2"],):
        shown, _ = on_terminal(line_of(endpoint, words), 80, **changed)
        assert "\x1b" not in shown
        assert _still(shown.encode()) == _still(in_pipe(line_of(endpoint, words))[0])
    shown, _ = on_terminal([*line_of(endpoint, ["status"]), "--json"], 80)
    assert "\x1b" not in shown
    assert shown.startswith("{\n")


def test_without_rich_the_text_is_plain(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ImportError('not installed')")
    for words in (["diff", "1", "2"], ["diff", "1", "9"]):
        shown, code = on_terminal(line_of(endpoint, words), 80, PYTHONPATH=str(tmp_path))
        assert "\x1b" not in shown
        assert code == (41 if "9" in words else 0)
        assert "Traceback" not in shown


def test_an_error_is_told_in_its_three_lines(endpoint: Endpoint) -> None:
    for width in (40, 80):
        shown, code = on_terminal(line_of(endpoint, ["diff", "1", "9"]), width)
        assert code == 41
        assert COLOUR.search(shown)
        bare = re.sub(r"\s+", " ", COLOUR.sub("", shown))
        assert bare.startswith("coldchain: not installed: release 9 is not kept here")
        assert "next: an endpoint keeps what runs" in bare


def test_markup_and_emoji_of_others_are_text() -> None:
    pytest.importorskip("rich")
    text = "[bold red]x[/] :smile: [link=http://a.example]y[/link]"
    every = view(
        Lines((text,)),
        Facts((Fact("label", text),)),
        Checks((Check(text, text, ok=True), Check("b", text, ok=False)), (f"note: {text}",)),
        Grid((Column("a"),), ((text,),), (text,)),
        Verdict(text),
    )
    drawn = terminal.draw(every, sys.stdout)
    assert drawn is not None
    assert re.sub(r"\s+", "", COLOUR.sub("", drawn)).count(re.sub(r"\s+", "", text)) >= 6
    assert "link=" in drawn
    assert "\x1b]8" not in drawn
    wild = f"a{ESCAPE}\x1b[2J\rb"
    every = view(
        Lines((wild,)),
        Facts((Fact(wild, wild),)),
        Checks((Check(wild, wild, ok=True), Check(wild, wild, ok=False)), (f"{wild}: {wild}",)),
        Grid((Column("a"),), ((wild,),), (wild,)),
        Verdict(wild),
    )
    drawn = (terminal.draw(every, sys.stdout) or "") + (terminal.draw_error(f"word: {wild}", sys.stdout) or "")
    assert not set("\x1b\x07\r") & set(COLOUR.sub("", drawn))
    assert "owned" in drawn


def test_plain_blocks() -> None:
    checks = (Check("a", "b", ok=True), Check("c", "d", ok=False))
    assert view(Checks(checks, ("e: f",)), Verdict("done")).plain() == "ok   a: b\nBAD  c: d\nnote e: f\ndone"
    assert Listed(checks[:1]).plain() == ["  a: b"]
    assert view(None, Facts((Fact("x", "y"), Fact("", "z")))).plain() == "x            y\n             z"
    found = facts(["public log   NOT SHOWN: why", "fresh        NO, since", "release      42", "FORKED       two"])
    assert [one.mood for one in found] == ["bad", "bad", "", "bad"]


def test_a_bar_is_no_wider_than_its_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from coldchain.commands.endpoint import show_progress

    for columns in (10, 20, 40, 80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        for there in (0, 1, 500, 999):
            show_progress(there * 1_000_000, 1_000_000_000)
            said = capsys.readouterr().err
            assert said.startswith("\r")
            assert 0 < len(said) - 1 < columns
    show_progress(10, 10)
    assert capsys.readouterr().err.endswith("\r\x1b[K")
