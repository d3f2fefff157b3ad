"""Every command through the real entry point: exit code, words for a person, ``--json``, help with an example.

One journey runs as processes of their own, as a person types them; the many refusals run within this process, through the same
entry point.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from coldchain_server.cli import main
from coldchain_server.commands.options import shown
from coldchain_server.gate.result import CHECKS
from coldchain_server.home import Home
from coldchain_server.signing.roles import now_utc
from tests.server import origins

PROGRAM = Path(sys.executable).parent / "coldchain-server"


def every_command(
    group: click.Group = main, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = dict(every_command())


def run(*words: str, home: Home | None = None, passphrase: str | None = origins.PASSPHRASE) -> Result:
    environment = {"COLDCHAIN_PASSPHRASE": passphrase, "COLDCHAIN_HOME": str(home.directory) if home else None}
    return CliRunner(env=environment).invoke(main, list(words))


def told(result: Result) -> dict[str, Any]:
    """The one JSON object on stdout."""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_commands_are_those_of_the_documents() -> None:
    assert {" ".join(words) for words in COMMANDS} == {
        *("init", "serve", "demo", "witness", "edge", "withdraw", "suppress"),
        *(f"region {name}" for name in ("list", "preview")),
        *(f"residency {name}" for name in ("show", "move", "retire")),
        *(f"feed {name}" for name in ("add", "pull", "list", "remove")),
        *(
            f"release {name}"
            for name in (
                "build",
                "log",
                "gate",
                "approve",
                "publish",
                "discard",
                "list",
                "show",
                "attest",
                "provenance",
            )
        ),
        *(f"rollout {name}" for name in ("set", "advance", "hold", "resume", "show")),
        *(f"reports {name}" for name in ("show", "add-edge")),
        *(f"keys {name}" for name in ("list", "rotate", "renew", "regions", "log", "policy")),
    }


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_an_example_of_the_command_itself(words: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        result = run(*words, flag)
        assert result.exit_code == 0
        assert result.stderr == ""
        example = result.stdout.split("Example:")[1].strip()
        assert example.startswith("coldchain-server " + " ".join(words))
        assert "  " not in example
    for parameter in COMMANDS[words].params:
        assert isinstance(parameter, click.Argument) or (isinstance(parameter, click.Option) and parameter.help)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_but_the_long_running_ones_speaks_json(words: tuple[str, ...]) -> None:
    names = {option for parameter in COMMANDS[words].params for option in parameter.opts}
    assert ("--json" in names) == (words not in {("serve",), ("demo",)})


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_unknown_option_is_a_usage_error(words: tuple[str, ...]) -> None:
    result = run(*words, "--no-such-option")
    assert result.exit_code == 2
    assert "--no-such-option" in result.stderr
    assert result.stdout == ""


NEED_A_HOME: dict[tuple[str, ...], tuple[str, ...]] = {
    ("feed", "add"): ("acme", "."),
    ("feed", "pull"): (),
    ("feed", "list"): (),
    ("feed", "remove"): ("acme",),
    ("release", "build"): (),
    ("release", "log"): ("1",),
    ("release", "gate"): ("1",),
    ("release", "approve"): ("1",),
    ("release", "publish"): ("1",),
    ("release", "discard"): ("1",),
    ("release", "list"): (),
    ("release", "show"): ("1",),
    ("release", "attest"): ("1", os.devnull),
    ("release", "provenance"): ("1",),
    ("rollout", "set"): ("10",),
    ("rollout", "advance"): (),
    ("rollout", "show"): (),
    ("rollout", "hold"): (),
    ("rollout", "resume"): (),
    ("reports", "show"): (),
    ("reports", "add-edge"): ("one", "--region", "us"),
    ("residency", "show"): (),
    ("residency", "move"): ("--region", "us", "--to", "ch"),
    ("residency", "retire"): ("us",),
    ("region", "list"): (),
    ("region", "preview"): ("us",),
    ("withdraw",): ("1", "--reason", "why"),
    ("suppress",): ("A", "--reason", "why"),
    ("keys", "list"): (),
    ("keys", "rotate"): ("timestamp",),
    ("keys", "renew"): ("root",),
    ("keys", "regions"): (),
    ("keys", "log"): (),
    ("keys", "policy"): (os.devnull,),
}


@pytest.mark.parametrize("words", NEED_A_HOME, ids=" ".join)
def test_without_an_origin_every_command_says_how_to_make_one(words: tuple[str, ...], memory: Path) -> None:
    home = Home(memory / "nothing")
    for json_flag in ((), ("--json",)):
        result = run(*words, *NEED_A_HOME[words], *json_flag, home=home)
        assert result.exit_code == 62
        assert "nothing is not an origin's directory" in result.stderr
        assert "next: coldchain-server init DIR" in result.stderr
        assert (told(result)["exit_code"] if json_flag else result.stdout) == (62 if json_flag else "")
    assert not home.directory.exists()
    assert {*NEED_A_HOME, ("init",), ("serve",), ("demo",), ("witness",), ("edge",)} == set(COMMANDS)


REFUSALS: list[tuple[str, int, str]] = [
    ("release publish 2", 63, "not approved: release 2 of stable is not approved"),
    ("release publish 1", 62, "release 1 of stable is published"),
    ("release approve 1", 62, "release 1 of stable is published"),
    ("release approve 2 --key root-1", 64, "key root-1 may not sign"),
    ("release approve 2 --key nobody", 64, "no key 'nobody' here"),
    ("release build", 62, "release 2 of stable is logged and not published"),
    ("release build --channel nightly", 62, "no channel 'nightly'"),
    ("release show 9", 62, "no release 9 of stable"),
    (f"release show {2**53 - 1}", 62, f"no release {2**53 - 1} of stable"),
    ("release list --channel nightly", 62, "no channel 'nightly'"),
    ("release discard 1", 62, "it cannot become discarded"),
    ("rollout set 10 --region atlantis", 2, "no region 'atlantis'"),
    ("rollout hold --channel early", 62, "no release of early"),
    ("feed pull nix", 62, "no feed 'nix'"),
    ("feed remove nix", 62, "no feed 'nix'"),
    ("feed add Bad_Name . --kind clamav", 2, "feed name"),
]


@pytest.mark.parametrize(("line", "code", "words"), REFUSALS)
def test_refusals_have_their_code_and_say_what_to_do(built_home: Home, line: str, code: int, words: str) -> None:
    plain = run(*line.split(), home=built_home)
    assert plain.exit_code == code, plain.stderr
    assert words in plain.stderr
    assert plain.stdout == ""
    as_json = run(*line.split(), "--json", home=built_home)
    assert as_json.exit_code == code
    assert told(as_json)["exit_code"] == code
    assert words.split(": ")[-1] in told(as_json)["what"]
    assert "Traceback" not in plain.output + as_json.output


@pytest.mark.parametrize(
    "line",
    [
        "rollout set 101",
        "rollout set -1",
        "release publish 0",
        f"release show {2**53}",
        f"release discard {2**64}",
        "keys rotate us",
        "keys renew us",
        "nonsense",
    ],
)
def test_words_that_are_no_command_touch_nothing(built_home: Home, line: str) -> None:
    result = run(*line.split(), home=built_home)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


SIGNING = ("release approve 2", "rollout set 10", "keys rotate timestamp --demo-keys", "keys renew root")


@pytest.mark.parametrize("line", SIGNING)
def test_a_wrong_or_missing_passphrase_signs_nothing(built_home: Home, line: str) -> None:
    before = {path: path.read_bytes() for path in built_home.public.rglob("*.json")}
    wrong = run(*line.split(), home=built_home, passphrase="wrong")
    assert wrong.exit_code == 64
    assert "does not open: the passphrase is wrong" in wrong.stderr
    missing = run(*line.split(), home=built_home, passphrase=None)
    assert missing.exit_code == 64
    assert "set COLDCHAIN_PASSPHRASE" in missing.stderr
    assert {path: path.read_bytes() for path in built_home.public.rglob("*.json")} == before


def test_a_catalogue_that_cannot_be_opened_says_what_to_do(built_home: Home) -> None:
    catalogue = built_home.directory / "catalogue.sqlite"
    catalogue.write_bytes(b"no database" * 1000)
    result = run("release", "list", home=built_home)
    assert result.exit_code == 43
    assert "next: restore it from a backup" in result.stderr
    catalogue.unlink()
    catalogue.mkdir()
    result = run("release", "list", home=built_home)
    assert result.exit_code == 43
    assert "next: run as the user whom the origin's directory belongs to" in result.stderr


def test_every_refusal_of_a_feed_says_what_is_kept_and_what_to_do(published_home: Home) -> None:
    folder = published_home.directory.parent / "feed"
    folder.mkdir()
    bad: list[tuple[str, bytes, str]] = [
        ("x.hdb", b"no hash\n", "--skip-bad"),
        ("x.cvd", b"not a container", "get the file again"),
        ("x.zip", b"not an archive", "get the file again"),
        ("x.other", b"?", "check --kind"),
        ("a\x01.hdb", b"", "rename it"),
    ]
    for name, data, todo in bad:
        (folder / name).write_bytes(data)
        result = run("feed", "add", "acme", str(folder), home=published_home)
        assert result.exit_code == 61, (name, result.stderr)
        assert "kept: the feed's last good snapshot" in result.stderr
        assert todo in result.stderr.split("next: ")[1], name
        (folder / name).unlink()
    (folder / "x.hdb").write_bytes(b"no hash\n")
    result = run("feed", "add", "acme", str(folder), "--skip-bad", home=published_home)
    assert "every record in it is bad" in result.stderr


def test_json_lists_every_finding_of_a_refused_feed(published_home: Home) -> None:
    folder = published_home.directory.parent / "feed"
    folder.mkdir()
    (folder / "x.hdb").write_bytes(b"no hash\n" * 30)
    result = run("feed", "add", "acme", str(folder), "--json", home=published_home)
    assert result.exit_code == 61
    assert [one["line"] for one in told(result)["findings"]] == list(range(1, 31))
    assert "and 22 more (--json lists them)" in result.stderr


def test_a_disk_that_refuses_is_told_without_a_traceback(built_home: Home) -> None:
    """An error of the system that no room expected."""
    (built_home.directory / "keys").rename(built_home.directory / "keys-away")
    (built_home.directory / "keys").write_bytes(b"a file where the directory should be")
    result = run("keys", "rotate", "timestamp", "--demo-keys", home=built_home)
    assert result.exit_code in (43, 64)
    assert "Traceback" not in result.output
    assert not isinstance(result.exception, OSError)


def test_text_of_feeds_cannot_move_the_cursor(published_home: Home) -> None:
    """A file's name with an escape sequence, in a finding that is printed."""
    folder = published_home.directory.parent / "hostile"
    folder.mkdir()
    (folder / "good.hsb").write_bytes(origins.FIRST["daily.hsb"])
    (folder / "a\x1b[2Jb.exe").write_bytes(b"MZ")
    result = run("feed", "add", "hostile", str(folder), home=published_home)
    assert "\x1b" not in result.output


@pytest.mark.parametrize("text", ["\x1b[2J", "\x07", "\x9b31m", "\u202e", "\r"])
def test_nothing_but_lines_of_text_reaches_a_terminal(built_home: Home, text: str) -> None:
    assert shown(f"a{text}b\nc").splitlines()[-1] == "c"
    assert text not in shown(f"a{text}b\nc")
    result = run("rollout", "set", "1", "--region", f"us{text}", home=built_home)
    assert result.exit_code == 2
    assert text not in result.output.replace("\r\n", "\n")


def test_init_refuses_what_is_no_product_or_region(memory: Path) -> None:
    for words in (("--product", 'x"\nchannels = []'), ("--product", "Two Words")):
        result = run("init", str(memory / "o"), "--demo-keys", *words)
        assert result.exit_code == 2
    regions = memory / "regions.toml"
    for text in (b"\xff", b"[regions.root]\njurisdiction = 'x'\n"):
        regions.write_bytes(text)
        assert run("init", str(memory / "o"), "--demo-keys", "--regions", str(regions)).exit_code == 2
    assert not (memory / "o").exists() or not list((memory / "o").iterdir())


def test_a_feed_that_is_refused_does_not_hold_up_the_others(published_home: Home) -> None:
    home = published_home
    good, bad = home.directory.parent / "good", home.directory.parent / "bad"
    for folder in (good, bad):
        folder.mkdir()
        (folder / "x.hsb").write_bytes(origins.FIRST["daily.hsb"])
        assert run("feed", "add", folder.name, str(folder), home=home).exit_code == 0
    (bad / "x.hsb").write_bytes(b"no hash\n")
    for words in (("bad", "good"), ()):
        origins.write_feed(home, origins.FIRST)
        result = run("feed", "pull", *words, "--json", home=home)
        assert result.exit_code == 61
        answer = told(result)
        assert [one["feed"] for one in answer["failed"]] == ["bad"]
        assert "good" in {one["feed"] for one in answer["feeds"]}
        assert "not pulled, with their last good snapshots kept: bad" in result.stderr


def test_a_journey_as_a_person_types_it(memory: Path) -> None:
    """Processes of their own: the installed program, its environment, its streams."""
    home = memory / "origin"
    feed = memory / "feed"
    feed.mkdir()
    (feed / "daily.hsb").write_bytes(origins.FIRST["daily.hsb"])
    environment = {**os.environ, "COLDCHAIN_PASSPHRASE": origins.PASSPHRASE, "COLDCHAIN_HOME": str(home)}

    def type_(line: str) -> str:
        done = subprocess.run([PROGRAM, *line.split()], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", "progress is for a terminal"
        return done.stdout

    assert "made 13 keys" in type_(f"init {home} --demo-keys")
    origins.without_engines(home)
    assert json.loads(type_(f"feed add acme {feed} --json"))["feed"] == "acme"
    assert "release 1 of stable: 61 records" in type_("release build")
    assert "signed by approver-1; every region has its signatures" in type_("release approve 1")
    assert json.loads(type_("release publish 1 --share 10 --json"))["share"] == 10
    assert origins.read(Home(home), "us", now=now_utc()).share == 10


def test_without_an_engine_a_release_needs_a_reason(new_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home = new_home
    monkeypatch.setattr("coldchain_server.gate.gate.own_files", lambda home: ())
    (home.directory / "settings.toml").write_text('[gate]\nsystem = []\neicar = false\nengines = ["clamav"]\n')
    run("feed", "add", "acme", str(origins.write_feed(home, origins.FIRST)), home=home)
    monkeypatch.setenv("PATH", "/nowhere")
    refused = run("release", "build", "--json", home=home)
    assert refused.exit_code == 66
    assert told(refused)["error"] == "GateError"
    assert {one["result"] for one in told(refused)["checks"]} == {"passed", "not-run"}
    for wrong in ("two\nlines", "x" * 501, " "):
        assert run("release", "build", "--without-gate", wrong, home=home).exit_code == 2
    good = run("release", "build", "--without-gate", "ClamAV is elsewhere", home=home)
    assert good.exit_code == 0, good.output
    assert "gate: released without that, because: ClamAV is elsewhere" in good.stdout


def test_the_rest_of_the_journey(published_home: Home) -> None:
    """Every other command's good case, plain and as JSON."""
    home = published_home

    def good(line: str) -> tuple[str, dict[str, Any]]:
        plain = run(*line.split(), home=home)
        assert plain.exit_code == 0, plain.output
        as_json = run(*line.split(), "--json", home=home)
        assert as_json.exit_code == 0, as_json.output
        assert as_json.stderr == ""
        return plain.stdout, told(as_json)

    text, found = good("feed list")
    assert "acme" in text
    assert found["feeds"][0]["name"] == "acme"
    origins.write_feed(home, origins.SECOND)
    # The feed's path is the template's; from here on it is this origin's own.
    assert run("feed", "add", "acme", str(origins.write_feed(home, origins.SECOND)), home=home).exit_code == 0
    text, found = good("feed pull acme")
    assert [one["feed"] for one in found["feeds"]] == ["acme"]
    assert found["failed"] == []
    assert run("release", "build", "--json", home=home).exit_code == 0
    text, found = good("release list")
    assert [(one["release"], one["state"]) for one in found["releases"]] == [(1, "published"), (2, "logged")]
    text, found = good("release show 2")
    assert found["manifest"]["release"] == 2
    assert json.loads(text.partition("\n")[2]) == found["manifest"]
    text, found = good("release gate 2")
    assert {one["check"] for one in found["checks"]} == set(CHECKS)
    assert all(one["result"] == one["manifest"] for one in found["checks"])
    assert found["without"] == "a test that is about something else"
    assert "released without that, because: a test that is about something else" in text
    assert run("release", "approve", "2", "--gate", home=home).exit_code == 0
    discarded = run("release", "discard", "2", "--json", home=home)
    assert told(discarded) == {"channel": "stable", "release": 2, "state": "discarded", "logged": True}
    text, found = good("rollout set 25 --region us")
    assert found["regions"]["us"] == {"release": 1, "share": 25, "held": False}
    text, found = good("rollout hold")
    assert [one["held"] for one in found["regions"].values()] == [True, True]
    assert " held" in text
    text, found = good("rollout resume --region jp")
    assert (found["regions"]["us"]["held"], found["regions"]["jp"]["held"]) == (True, False)
    text, found = good("keys renew targets")
    assert found == {"role": "targets"}
    text, found = good("keys regions")
    assert found == {"added": []}
    text, found = good("keys rotate snapshot --demo-keys")
    assert found["role"] == "snapshot"
    text, found = good("keys list")
    assert [row["role"] for row in found["roles"]] == [
        "root",
        "targets",
        "jp",
        "rollout",
        "us",
        "snapshot",
        "timestamp",
    ]
    assert "2 of 3" in text
    assert run("feed", "remove", "acme", home=home).exit_code == 0
    text, found = good("feed list")
    assert found == {"feeds": []}
