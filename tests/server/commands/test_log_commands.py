"""The commands around the public log, through the real entry point, with real witnesses: ``init``, ``release`` and ``keys``."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from coldchain.tlog.vkey import parse_vkey
from coldchain_server.cli import main
from coldchain_server.home import Home
from coldchain_server.log.public_log import PublicLog
from coldchain_server.signing.log_policy import policy_of
from coldchain_server.signing.roles import load_state, now_utc
from tests.server import origins
from tests.server.witnesses import Team

NAMES = ("zurich", "tokyo")


def run(*words: str, home: Home | None = None) -> Result:
    environment = {"COLDCHAIN_PASSPHRASE": origins.PASSPHRASE, "COLDCHAIN_HOME": str(home.directory) if home else None}
    return CliRunner(env=environment).invoke(main, list(words))


def good(*words: str, home: Home | None = None) -> str:
    result = run(*words, home=home)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def told(*words: str, home: Home | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(good(*words, "--json", home=home))
    return found


def size_of(home: Home) -> int:
    policy = policy_of(asyncio.run(load_state(home.storage)))
    return asyncio.run(PublicLog(home.storage, policy.log_keys[0]).checkpoint()).size


class Services:
    """Witnesses in a thread with an event loop of its own: commands run their own loop in this one."""

    def __init__(self, folder: Path) -> None:
        self.team = Team(folder, NAMES, now_utc())
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self.team.start(), self.loop).result(20)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.team.stop(), self.loop).result(20)


@contextmanager
def services(folder: Path) -> Iterator[Services]:
    found = Services(folder)
    found.thread.start()
    try:
        found.start()
        yield found
    finally:
        found.stop()
        found.loop.call_soon_threadsafe(found.loop.stop)
        found.thread.join()
        found.loop.close()


@pytest.fixture
def witnesses(memory: Path) -> Iterator[Services]:
    (memory / "witnesses").mkdir()
    with services(memory / "witnesses") as found:
        yield found


@pytest.fixture
def policy(witnesses: Services, memory: Path) -> Path:
    """The file that an operator writes."""
    file = memory / "witnesses.policy"
    file.write_bytes(witnesses.team.lines(2))
    return file


@pytest.fixture
def home(policy: Path, memory: Path, witnesses: Services) -> Home:
    """Made by ``init`` with witnesses; they know its log, and there is a feed."""
    directory = memory / "origin"
    words = ("init", str(directory), "--demo-keys", "--policy", str(policy), "--log-name", "log.example/typed")
    found = told(*words)
    assert found["witnesses"] == list(NAMES)
    key = parse_vkey(found["log"])
    assert key is not None
    assert key.name == "log.example/typed"
    witnesses.team.follow(key)
    home = Home(directory)
    origins.without_engines(directory)
    good("feed", "add", "acme", str(origins.write_feed(home, origins.FIRST)), home=home)
    return home


def test_an_approvers_cache_must_be_the_approvers_own(home: Home, memory: Path, witnesses: Services) -> None:
    good("release", "build", home=home)
    for inside in (home.directory, home.directory / "lint", home.directory / "x" / ".." / "lint"):
        assert run("release", "approve", "1", "--cache", str(inside), home=home).exit_code == 2
    own = memory / "approver"
    assert told("release", "approve", "1", "--cache", str(own), home=home)["approved"]
    assert any(own.iterdir())


def test_init_says_whom_customers_ask(policy: Path, memory: Path) -> None:
    text = good("init", str(memory / "with"), "--demo-keys", "--policy", str(policy))
    assert "public log: coldchain-log+" in text
    assert "customers ask for a quorum of" in text
    assert all(name in text for name in NAMES)
    without = good("init", str(memory / "without"), "--demo-keys", "--product", "sample")
    assert "public log: sample-log+" in without
    assert "NO WITNESS yet" in without
    assert told("keys", "log", home=Home(memory / "without"))["vkey"] in without


BAD_FILES = {
    "no policy": b"nonsense\n",
    "empty": b"",
    "a log line of its own": b"log log.example/x+a7468cf6+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop\nquorum none\n",
    "not UTF-8": b"\xff\n",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_policy_makes_and_changes_nothing(name: str, home: Home, memory: Path) -> None:
    bad = memory / "bad.policy"
    bad.write_bytes(BAD_FILES[name])
    made = run("init", str(memory / "new"), "--demo-keys", "--policy", str(bad))
    assert made.exit_code == 2
    assert "log policy: " in made.stderr
    assert not Home(memory / "new").exists
    before = sorted(home.public.rglob("*"))
    changed = run("keys", "policy", str(bad), "--json", home=home)
    assert changed.exit_code == 2
    assert json.loads(changed.stdout)["exit_code"] == 2
    assert sorted(home.public.rglob("*")) == before


@pytest.mark.parametrize("name", ["two words", "a+b", ""])
def test_a_name_that_no_log_may_have(name: str, memory: Path) -> None:
    result = run("init", str(memory / "new"), "--demo-keys", "--log-name", name)
    assert result.exit_code == (0 if not name else 2), result.output
    assert name == "" or "log name: " in result.stderr


def test_the_whole_way_typed(home: Home) -> None:
    text = good("release", "build", home=home)
    assert "public log: entry 0 of log.example/typed, cosigned by zurich, tokyo; proof " in text
    assert text.rstrip().endswith("next: coldchain-server release approve 1")
    good("release", "approve", "1", home=home)
    good("release", "publish", "1", home=home)
    assert origins.read_all(home, now=now_utc()) == 1
    found = told("release", "build", home=home)
    assert (found["release"], found["log"], found["index"], found["size"]) == (2, "log.example/typed", 1, 2)
    assert found["witnesses"] == list(NAMES)
    assert found["manifest"]["release"] == 2
    assert 0 < found["proof_bytes"] < 4096
    listed = told("release", "list", home=home)
    assert [one["state"] for one in listed["releases"]] == ["published", "logged"]


def test_build_and_log_are_two_steps_for_whoever_wants_to_look_first(home: Home) -> None:
    found = told("release", "build", "--no-log", home=home)
    assert "index" not in found
    assert size_of(home) == 0
    for step, code in (("approve", 62), ("publish", 63)):
        result = run("release", step, "1", home=home)
        assert result.exit_code == code
        assert "next: coldchain-server release log 1" in result.stderr
    logged = told("release", "log", "1", home=home)
    assert (logged["release"], logged["channel"], logged["index"], logged["size"]) == (1, "stable", 0, 1)
    again = run("release", "log", "1", home=home)
    assert again.exit_code == 62
    assert "release 1 of stable is logged already" in again.stderr
    assert run("release", "log", "2", home=home).exit_code == 62
    assert run("release", "log", "0", home=home).exit_code == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_without_witnesses_it_says_who_is_missing_and_what_to_type(
    home: Home, witnesses: Services, as_json: bool
) -> None:
    witnesses.stop()
    flag = ("--json",) if as_json else ()
    built = run("release", "build", *flag, home=home)
    assert built.exit_code == 16
    assert "next: " in built.stderr
    assert "then: coldchain-server release log 1" in built.stderr
    assert "the log holds the entry (0); nothing is signed or published" in built.stderr
    if as_json:
        answer = json.loads(built.stdout)
        assert answer["exit_code"] == 16
        assert all(name in answer["what"] for name in NAMES)
        assert answer["next"].endswith("; then: coldchain-server release log 1")
    else:
        assert "release 1 of stable: 121 records" in built.stdout, "what was built is told all the same"
        assert all(f"{name}: cannot be reached" in built.stderr for name in NAMES)
    tried = run("release", "log", "1", *flag, home=home)
    assert tried.exit_code == 16
    assert size_of(home) == 1
    witnesses.start()
    assert told("release", "log", "1", home=home)["index"] == 0
    assert size_of(home) == 1


def test_discard_says_what_becomes_of_the_number(home: Home) -> None:
    good("release", "build", "--no-log", home=home)
    text = good("release", "discard", "1", home=home)
    assert "release 1 of stable is given up; its number is the next one's" in text
    assert told("release", "list", home=home)["releases"] == []
    good("release", "build", home=home)
    found = told("release", "discard", "1", home=home)
    assert found == {"channel": "stable", "release": 1, "state": "discarded", "logged": True}
    assert told("release", "build", home=home)["release"] == 2
    text = good("release", "discard", "2", home=home)
    assert "it stays in the public log, and its number is used" in text


def test_keys_log_prints_the_vkey_alone(home: Home) -> None:
    text = good("keys", "log", home=home)
    key = parse_vkey(text.removesuffix("\n"))
    assert key is not None
    assert key.name == "log.example/typed"
    assert told("keys", "log", home=home) == {"vkey": key.vkey}


def test_keys_policy_changes_whom_customers_ask(home: Home, memory: Path, witnesses: Services) -> None:
    file = memory / "fewer.policy"
    file.write_bytes(witnesses.team.lines(1, ["tokyo"]))
    vkey = told("keys", "log", home=home)["vkey"]
    text = good("keys", "policy", str(file), home=home)
    assert f"log {vkey}" in text
    assert "publish a release now" in text
    found = told("keys", "policy", str(file), home=home)
    assert found["policy"] == [f"log {vkey}", *file.read_text().splitlines()]
    assert told("release", "build", home=home)["witnesses"] == ["tokyo"]


def test_a_policy_file_that_cannot_be_read_is_named(home: Home, memory: Path) -> None:
    missing = memory / "missing.policy"
    for words in (("keys", "policy", str(missing)), ("init", str(memory / "new"), "--policy", str(missing))):
        result = run(*words, home=home)
        assert result.exit_code == 2
        assert "missing.policy" in result.stderr
