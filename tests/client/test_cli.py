"""The customers' command line, through its one entry point: exit codes, words for a person, one JSON object for a script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coldchain import cli
from coldchain.bundle.manifest import Policy
from coldchain.install.directory import ClientDirectory
from tests.client.agent.publisher import Publisher
from tests.client.tlog.memory_log import MemoryLog

HASHES = "".join(f"{n:032x}:{100 + n}:Acme.Test.Hash-{n}\n" for n in range(8))
ESCAPE = "\x1b]0;owned\x07"
FIRST = {
    "acme.hdb": HASHES.encode(),
    "acme.ldb": b"Acme.Logic-1;Engine:81-255,Target:1;0&1;6161616161;4d5a90??0011\n",
    "acme.ndb": b"Acme.Body-1:1:EP+0:626d141ddd62??5c23\nAcme.Body-2:0:*:aabbccddeeff\n",
    "bad.list": f"{ESCAPE}.example\none.example\n".encode(),
    "rules.yar": b"rule Acme_Rule { condition: true }\n",
    "gone.list": b"gone.example\n",
}
SECOND = {
    "acme.hdb": (HASHES.replace("Hash-3\n", "Hash-3b\n") + f"{'f' * 32}:9:Acme.Test.New\n").encode(),
    "acme.ldb": FIRST["acme.ldb"],
    "acme.ndb": b"Acme.Body-1:1:EP+0:626d141ddd62??5c24\n",
    "bad.list": b"one.example\ntwo.example\n",
    "rules.yar": b"rule Acme_Rule { condition: false }\nrule Acme_Other { condition: true }\n",
}
POLICY = Policy("leave-out", "signature", "Acme.Left-1", "it matches a printer driver", 1)


class Endpoint:
    """A directory that follows a published tree on the disk (a copy on a stick is a source too)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publisher = Publisher(folder / "publisher", policy=(POLICY,), log=MemoryLog())
        self.tree = folder / "tree"
        self.root = folder / "root.json"
        self.root.write_bytes(self.publisher.repository.pinned)
        self.directory = folder / "endpoint"

    def publish(self, release: int, contents: dict[str, bytes], **rollout: Any) -> None:
        self.publisher.publish(release, contents, **rollout)
        self.publisher.write(self.tree)

    def init(self, **changed: str) -> int:
        options = {"root": str(self.root), "region": "us", "url": str(self.tree), **changed}
        words = [f"--{name}={value}" for name, value in options.items()]
        return cli.run(["init", str(self.directory), *words])

    def run(self, command: str, *words: str) -> int:
        return cli.run([command, str(self.directory), *words])


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    return Endpoint(tmp_path)


@pytest.fixture
def updated(endpoint: Endpoint, capsys: pytest.CaptureFixture[str]) -> Endpoint:
    """An endpoint that went from release 1 to 2."""
    endpoint.publish(1, FIRST)
    assert endpoint.init() == 0
    assert endpoint.run("update") == 0
    endpoint.publish(2, SECOND)
    assert endpoint.run("update") == 0
    capsys.readouterr()
    return endpoint


def answer(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one JSON object on stdout."""
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_first_set_then_an_update_then_nothing_new(endpoint: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint.publish(1, FIRST)
    assert endpoint.init() == 0
    out = capsys.readouterr().out
    assert "region us, channel stable" in out
    assert "compare the fingerprint" in out
    assert endpoint.run("status") == 41
    capsys.readouterr()
    assert endpoint.run("update") == 0
    assert capsys.readouterr().out.startswith("installed: release 1, as the full bundle, every byte as signed")
    endpoint.publish(2, SECOND)
    assert endpoint.run("update", "--json") == 0
    found = answer(capsys)
    assert (found["action"], found["release"], found["previous"], found["way"]) == ("updated", 2, 1, "delta")
    assert endpoint.run("update") == 0
    assert capsys.readouterr().out.startswith("current: release 2 is the newest (quick check:")
    assert endpoint.run("status", "--json") == 0
    found = answer(capsys)
    assert (found["release"], found["previous"], found["stale"], found["damage"]) == (2, 1, False, None)
    assert endpoint.run("verify") == 0
    out = capsys.readouterr().out
    assert "release 2 is exactly what was signed" in out
    assert "BAD" not in out
    assert "policy of region us: leave-out signature Acme.Left-1: it matches a printer driver" in out


def test_init_refuses_what_cannot_be_pinned(endpoint: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint.publish(1, FIRST)
    broken = endpoint.folder / "broken.json"
    broken.write_bytes(endpoint.root.read_bytes().replace(b'"version":1', b'"version":2'))
    for changed in (
        {"root": str(endpoint.folder / "nothing.json")},
        {"root": str(broken)},
        {"fingerprint": "00" * 32},
        {"region": "../us"},
        {"region": "root"},
        {"channel": "a b"},
    ):
        assert endpoint.init(**changed) == 2, changed
        assert not (endpoint.directory / "coldchain.json").exists()
        assert "coldchain: usage: " in capsys.readouterr().err
    for url in ("ftp://a.example", "http://a.example/?q", "http://user:word@a.example"):
        with pytest.raises(SystemExit, match="2"):
            endpoint.init(url=url)
    capsys.readouterr()
    assert endpoint.init(fingerprint=_fingerprint(endpoint.root)) == 0


def _fingerprint(path: Path) -> str:
    import hashlib

    text = hashlib.sha256(path.read_bytes()).hexdigest().upper()
    return ":".join(text[at : at + 2] for at in range(0, 64, 2))


def test_a_directory_with_a_set_does_not_change_what_it_follows(
    updated: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert updated.init(region="jp") == 2
    assert "nothing was changed" in capsys.readouterr().err
    assert updated.init() == 0
    assert updated.run("status") == 0


def test_init_again_gives_up_no_policy_in_passing(updated: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    """The customer's own policy stays until somebody says otherwise, and what is refused has changed nothing."""
    assert updated.publisher.log is not None
    mine, other = updated.folder / "mine", updated.folder / "other"
    mine.write_text("# mine\n" + updated.publisher.log.policy)
    other.write_text(updated.publisher.log.policy)
    assert updated.init(policy=str(mine)) == 0
    assert "your own policy" in capsys.readouterr().out
    for changed in ({}, {"region": "jp", "policy": str(other)}):
        assert updated.init(**changed) == 2
        assert "nothing was changed" in capsys.readouterr().err
        assert updated.run("update") == 0
        assert (updated.directory / "policy").read_bytes() == mine.read_bytes()
    config = updated.directory / "coldchain.json"
    config.write_bytes(config.read_bytes()[:-1])
    assert updated.init() == 2
    assert "--policy root" in capsys.readouterr().err
    assert updated.init(policy=str(updated.directory / "policy")) == 0
    assert updated.run("update") == 0
    assert updated.init(policy="root") == 0
    assert "as the root says" in capsys.readouterr().out
    assert updated.init() == 0
    assert updated.run("update") == 0


def test_status_says_where_the_release_stands_in_the_log(updated: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert updated.run("status") == 0
    out = capsys.readouterr().out
    at = updated.publisher.now
    assert "public log   entry 1 of log.example/test, which had 2 entries when it was last seen here\n" in out
    assert f"vouched for  {at:%Y-%m-%d %H:%M} UTC (less than an hour before now), by w0, w1\n" in out
    assert updated.run("status", "--json") == 0
    assert answer(capsys)["log"] == {
        "asked": True,
        "origin": "log.example/test",
        "index": 1,
        "size": 2,
        "cosigned": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "witnesses": ["w0", "w1"],
        "problem": None,
        "fork": False,
    }
    fork = updated.directory / "metadata" / "fork.txt"
    fork.write_bytes(b"two checkpoints")
    assert updated.run("status", "--json") == 16
    assert answer(capsys)["log"]["fork"] is True
    assert updated.run("status") == 16
    out, err = capsys.readouterr()
    assert "FORKED " in out
    assert str(fork) in err
    fork.unlink()
    (proof,) = (updated.directory / "signed").glob("2-*/manifest.tlog-proof")
    proof.write_bytes(proof.read_bytes().replace(b"index 1", b"index 0"))
    assert updated.run("status") == 16
    out, err = capsys.readouterr()
    assert "NOT SHOWN: " in out
    assert "--repair" in err
    assert updated.run("update", "--repair") == 0
    assert updated.run("status") == 0


def test_every_failure_has_its_code_and_its_three_lines(
    updated: Endpoint, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("status", "update", "verify"):
        assert cli.run([name, str(tmp_path / "nowhere")]) == 41
    capsys.readouterr()
    updated.publish(3, FIRST, share=0)
    assert updated.run("update", "--json") == 11
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["error"], found["exit_code"]) == ("HeldError", 11)
    assert found["kept"] == "release 2 stays in use"
    assert err.startswith("coldchain: held: release 3 ")
    assert "\n  kept: release 2 stays in use\n  next: " in err
    assert updated.run("update", "--url", "http://127.0.0.1:9") == 20
    with ClientDirectory(updated.directory).locked():
        assert updated.run("update") == 42
    section = updated.directory / "current" / "acme.hdb"
    section.chmod(0o644)
    section.write_bytes(section.read_bytes().replace(b"Hash-1", b"Hash-x"))
    capsys.readouterr()
    assert updated.run("verify") == 40
    out, err = capsys.readouterr()
    assert "BAD  section acme.hdb: acme.hdb has another SHA-256 than signed" in out
    assert "release 2 is not as signed" in err
    section.write_bytes(b"short")
    assert updated.run("status") == 40
    assert updated.run("update", "--repair") == 11


def test_diff_counts_and_names_what_came_went_and_changed(
    updated: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert updated.run("diff", "1", "2", "--json") == 0
    found = answer(capsys)
    assert (found["from"], found["to"]) == (1, 2)
    sections = {one["section"]: one for one in found["sections"]}
    counts = {name: (one["added"], one["removed"], one["changed"]) for name, one in sections.items()}
    assert counts == {
        "acme.hdb": (2, 1, 0),
        "acme.ndb": (0, 1, 1),
        "bad.list": (1, 1, 0),
        "gone.list": (0, 1, 0),
        "rules.yar": (1, 0, 1),
    }
    assert sections["acme.hdb"]["added_names"] == ["Acme.Test.Hash-3b", "Acme.Test.New"]
    assert sections["acme.hdb"]["removed_names"] == ["Acme.Test.Hash-3"]
    assert sections["acme.ndb"]["changed_names"] == ["Acme.Body-1"]
    assert sections["rules.yar"]["changed_names"] == ["Acme_Rule"]
    assert sections["rules.yar"]["added_names"] == ["Acme_Other"]
    assert sections["gone.list"]["what"] == "removed"
    assert updated.run("diff", "2", "1", "--json") == 0
    back = {one["section"]: (one["removed"], one["added"], one["changed"]) for one in answer(capsys)["sections"]}
    assert back == counts
    assert updated.run("diff", "1", "2", "--names", "1") == 0
    out = capsys.readouterr().out
    assert "release 1 -> 2: 5 sections differ" in out
    assert "+ Acme.Test.Hash-3b\n      + … 1 more" in out
    assert "4 added\n       4 removed\n       2 changed" in out
    assert updated.run("diff", "2", "2") == 0
    assert "no section differs" in capsys.readouterr().out
    assert updated.run("diff", "1", "3") == 41
    assert "releases that are: 1 and 2" in capsys.readouterr().err


def test_what_a_signature_holds_cannot_speak_to_the_terminal(
    updated: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["diff", "1", "2"], ["diff", "1", "2", "--json"], ["explain", f"{ESCAPE}.example"]):
        updated.run(*words)
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert "owned" in out + err


def test_explain_says_where_a_name_stands_and_what_it_means(
    updated: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, section, words in (
        ("Acme.Test.Hash-4", "acme.hdb", "a file of exactly 104 bytes with this MD5"),
        ("Acme.Test.Hash-4.UNOFFICIAL", "acme.hdb", f"MD5 {4:032x}"),
        ("Acme.Body-1", "acme.ndb", "in Windows programs (PE)"),
        ("Acme.Logic-1", "acme.ldb", "matches when: 0 and 1"),
        ("YARA.Acme_Rule.UNOFFICIAL", "rules.yar", "rule Acme_Rule { condition: false }"),
        ("two.example", "bad.list", "an entry of a list"),
        ("Coldchain.Canary.us-stable-2", "coldchain-canary.ndb", "anywhere"),
    ):
        assert updated.run("explain", name) == 0, name
        out = capsys.readouterr().out
        assert f"in {section}" in out
        assert words in out
        assert updated.run("explain", name, "--json") == 0
        found = answer(capsys)
        assert [one["section"] for one in found["places"]] == [section]
    assert updated.run("explain", "Acme.Left-1") == 0
    out = capsys.readouterr().out
    assert "is not in release 2 of region us" in out
    assert "policy of region us: leave-out, because: it matches a printer driver" in out
    for name in ("Acme.Test.Hash-3", "Acme.Test", "", "Hash-4"):
        assert updated.run("explain", name) == 41, name


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.run(["--help"])
    whole = capsys.readouterr().out
    commands = ["init", "update", "status", "verify", "diff", "explain"]
    for name in commands:
        assert name in whole
        with pytest.raises(SystemExit, match="0"):
            cli.run([name, "--help"])
        out = capsys.readouterr().out
        assert f"example:\n  coldchain {name} " in out
        assert "--json" in out
    for words in ([], ["nothing"], ["diff", "d", "0", "1"], ["diff", "d", "1", "x"], ["diff", "d", "1"]):
        with pytest.raises(SystemExit, match="2"):
            cli.run(words)


def test_the_program_itself_is_silent_in_a_pipe_and_ends_with_the_code(updated: Endpoint) -> None:
    program = Path(sys.executable).parent / "coldchain"
    environment = {**os.environ, "COLUMNS": "80"}
    for words, code in ((["update"], 0), (["status"], 0), (["verify"], 0), (["diff", "1", "7"], 41)):
        done = subprocess.run(
            [program, words[0], str(updated.directory), *words[1:]], capture_output=True, env=environment, check=False
        )
        assert done.returncode == code
        assert b"\r" not in done.stdout + done.stderr
        assert (done.stderr == b"") is (code == 0)


def test_no_open_files_left_is_said_in_words(updated: Endpoint) -> None:
    program = Path(sys.executable).parent / "coldchain"
    words = f"ulimit -n 6; exec '{program}' update '{updated.directory}'"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert done.returncode == 43, done.stderr
    assert done.stderr.startswith("coldchain: disk: ")
    assert "stays in use" in done.stderr


def test_a_reader_that_goes_away_is_no_error(updated: Endpoint) -> None:
    program = Path(sys.executable).parent / "coldchain"
    first, second = os.pipe()
    os.close(first)
    with os.fdopen(second, "wb") as gone:
        done = subprocess.run(
            [program, "verify", str(updated.directory)], stdout=gone, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("redirection", "environment", "code", "said"),
    [
        (">/dev/full", {}, 43, "the answer cannot be written"),
        (">&-", {}, 0, ""),
        ("", {"PYTHONIOENCODING": "ascii"}, 0, ""),
        ("", {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, 0, ""),
    ],
)
def test_an_answer_that_cannot_be_written_as_it_is(
    updated: Endpoint, redirection: str, environment: dict[str, str], code: int, said: str
) -> None:
    program = Path(sys.executable).parent / "coldchain"
    words = f"exec '{program}' diff '{updated.directory}' 1 2 --names 0 {redirection}"
    done = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, env=os.environ | environment, check=False
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert bool(done.stderr) is bool(code)
    assert ("\\u2026" in done.stdout) is bool(environment)
    assert done.stderr.count("\n") <= 3


def test_a_count_below_zero_is_refused(updated: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("-1", "x", "1" * 16):
        with pytest.raises(SystemExit):
            updated.run("diff", "1", "2", f"--names={wrong}")
        assert "is not a number from 0 on" in capsys.readouterr().err
