"""What ``coldchain explain`` says of a name: decoded, its feed, since when, its entry of the log, in force or not, and why."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coldchain.agent.history import first_release
from coldchain.bundle.manifest import FeedFacts
from coldchain.errors import UsageError
from coldchain.explain import Explanation, explain
from coldchain.install.audit import running
from coldchain.records import in_words
from tests.client.install.endpoint import Endpoint
from tests.client.tlog.memory_log import MemoryLog

BODY = b"Acme.Body-1:1:EP+0:626d141ddd62??5c23\n"
BODIES = b"Acme.Body-1:1:EP+0:626d141ddd62??5c23\nAcme.Body-2:0:*:aabbccddeeff\n"
CONTENTS = {
    "acme-a.ndb": BODIES,
    "acme-a.ign2": b"Acme.Body-1\n",
    "acme-b.hdb": b"d41d8cd98f00b204e9800998ecf8427e:10:Acme.Hash-1\n",
    "acme-b.hdu": b"d41d8cd98f00b204e9800998ecf8427f:10:Acme.Toolbar-1\n",
    "acme-b.fp": b"d41d8cd98f00b204e9800998ecf8427c:10:Acme.Good-1\n",
    "acme-more-c.yar": b"private rule Helper { condition: true }\nrule Acme_Rule { condition: Helper }\n",
    "names.list": b"Acme.Body-2\n",
}
FEEDS = tuple(FeedFacts(name, "00" * 32, 1, 1) for name in ("acme", "acme-more", "other"))


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    made = Endpoint.at(tmp_path, log=MemoryLog(), feeds=FEEDS, named_files=True)
    made.publish(1, CONTENTS)
    made.update()
    return made


def ask(endpoint: Endpoint, name: str) -> Explanation:
    return explain(endpoint.directory, running(endpoint.directory), name, datetime.now(UTC))


def states(endpoint: Endpoint, name: str) -> dict[str, str]:
    return {one.section: one.state for one in ask(endpoint, name).places}


def test_whether_a_name_is_in_force(endpoint: Endpoint) -> None:
    assert states(endpoint, "Acme.Body-1") == {"acme-a.ndb": "suppressed", "acme-a.ign2": "switch"}
    assert states(endpoint, "Acme.Body-2") == {"acme-a.ndb": "active", "names.list": "listed"}
    assert states(endpoint, "Acme.Hash-1.UNOFFICIAL") == {"acme-b.hdb": "active"}
    assert states(endpoint, "Acme.Toolbar-1") == {"acme-b.hdu": "unwanted-only"}
    assert states(endpoint, "Acme.Good-1") == {"acme-b.fp": "exception"}
    assert states(endpoint, "Helper") == {"acme-more-c.yar": "private"}
    assert states(endpoint, "YARA.Acme_Rule") == {"acme-more-c.yar": "active"}
    assert [ask(endpoint, name).active for name in ("Acme.Body-1", "Acme.Body-2", "Helper", "nothing")] == [
        False,
        True,
        False,
        False,
    ]


def test_a_suppression_of_one_line_leaves_the_others(endpoint: Endpoint) -> None:
    line = BODY.rstrip(b"\n")
    for number, (digest, state) in enumerate(((hashlib.md5(line), "suppressed"), (hashlib.md5(b""), "active")), 2):
        ignored = f"Acme.Body-1:{digest.hexdigest()}\n".encode()
        endpoint.publish(number, CONTENTS | {"acme-a.ign2": ignored})
        endpoint.update()
        assert states(endpoint, "Acme.Body-1")["acme-a.ndb"] == state


@pytest.mark.parametrize(
    ("kinds", "body", "rule"),
    [((), "active", "active"), (("clamav",), "active", "not-loaded"), (("yara",), "not-loaded", "active")],
)
def test_what_no_engine_here_loads(endpoint: Endpoint, kinds: tuple[str, ...], body: str, rule: str) -> None:
    text = "".join(f'[[engine]]\nkind = "{kind}"\n' for kind in kinds)
    (endpoint.directory.path / "policy.toml").write_text("# engines\n" + text)
    assert states(endpoint, "Acme.Body-2")["acme-a.ndb"] == body
    assert states(endpoint, "Acme_Rule") == {"acme-more-c.yar": rule}
    for place in ask(endpoint, "Acme_Rule").places:
        assert all(kind in place.why for kind in kinds if place.state == "active")


def test_a_broken_policy_is_said(endpoint: Endpoint) -> None:
    (endpoint.directory.path / "policy.toml").write_text("[engin]")
    with pytest.raises(UsageError, match="engine"):
        ask(endpoint, "Acme.Body-2")


def test_the_feed_is_the_longest_that_fits(endpoint: Endpoint) -> None:
    for name, feed in (("Acme.Body-2", "acme"), ("Acme_Rule", "acme-more"), ("Coldchain.Canary.us-stable-1", None)):
        assert ask(endpoint, name).places[0].feed == feed
    assert {one.feed for one in ask(endpoint, "Acme.Body-2").places} == {"acme", None}


def test_since_when_and_the_logs_entry(endpoint: Endpoint) -> None:
    found = ask(endpoint, "Acme.Body-2")
    assert found.since is not None
    assert (found.since.release, found.since.exact, found.entry, found.index) == (1, False, 1, 0)
    endpoint.publish(
        2, CONTENTS | {"acme-b.hdb": CONTENTS["acme-b.hdb"] + b"d41d8cd98f00b204e9800998ecf8427f:10:New-1\n"}
    )
    endpoint.update()
    for name, release, exact in (("Acme.Body-2", 1, False), ("New-1", 2, True)):
        found = ask(endpoint, name)
        assert found.since is not None
        assert (found.since.release, found.since.exact) == (release, exact)
        assert (found.entry, found.index, found.origin) == (release, release - 1, "log.example/test")
    endpoint.publish(3, CONTENTS)
    endpoint.publish(4, CONTENTS | {"acme-a.ndb": BODIES + b"New-2:0:*:aabbccddeeff\n"})
    endpoint.update()
    found = ask(endpoint, "New-2")
    assert found.since is not None
    assert (found.since.release, found.since.exact, found.entry, found.index) == (4, False, 4, 3)
    assert "those between are not kept" in found.since.reason


def test_the_first_release_from_those_that_are_published(endpoint: Endpoint) -> None:
    """Back along the chain of manifests, to the release that came with it; a gap in what is published is said."""
    for release in range(2, 6):
        names = b"".join(b"New-%d:0:*:aabbccddeeff\n" % number for number in range(2, release + 1))
        endpoint.publish(release, CONTENTS | {"acme-a.ndb": BODIES + names})
    endpoint.update()
    version = running(endpoint.directory)
    for release in range(2, 6):
        since = asyncio.run(first_release(endpoint.directory, version, f"New-{release}"))
        assert (since.release, since.exact, since.reason) == (
            release,
            True,
            f"release {release - 1} does not have it",
        )
    since = asyncio.run(first_release(endpoint.directory, version, "Acme.Body-1"))
    assert (since.release, since.exact) == (1, True)
    (second,) = [path for path in (endpoint.mirror / "manifests").iterdir() if b'"release":2}' in path.read_bytes()]
    honest = second.read_bytes()
    second.write_bytes(honest.replace(b'"release":2}', b'"release":1}'))
    since = asyncio.run(first_release(endpoint.directory, version, "Acme.Body-1"))
    assert (since.release, since.exact) == (3, False), "a manifest that is not the named one tells nothing"
    second.write_bytes(honest)
    described = endpoint.publisher.releases["us"][2]
    full = hashlib.sha256(endpoint.publisher.encode(None, described)).hexdigest()
    (path,) = endpoint.mirror.rglob(f"{full}.full.ccd")
    good = path.read_bytes()
    for bad in (None, good[:-1] + bytes([good[-1] ^ 1])):
        path.unlink(missing_ok=True)
        if bad is not None:
            path.write_bytes(bad)
        since = asyncio.run(first_release(endpoint.directory, version, "Acme.Body-1"))
        assert (since.release, since.exact) == (3, False)
        assert "cannot be had" in since.reason


def test_our_decoding_says_what_clamavs_own_decoder_says() -> None:
    """Not relied upon; where sigtool is installed, the two are held against each other."""
    program = shutil.which("sigtool")
    if program is None:
        pytest.skip("sigtool (package clamav-base or clamav) is not installed")
    lines = {
        "X.A-1:0:*:4d5a??90": ("ANY FILE", "in any file", "*", "anywhere"),
        "X.B-1:1:EP+16:6162{4-8}6364": ("PE", "Windows programs (PE)", "EP+16", "16 bytes after the entry point"),
        "X.C-1:3:EOF-100:3c68746d6c": ("HTML", "in HTML", "EOF-100", "100 bytes before the end"),
        "X.D-1:6:0:7f454c46*aabb": ("ELF", "Unix programs (ELF)", "0", "at byte 0"),
    }
    for line, (target, ours, offset, ours_too) in lines.items():
        done = subprocess.run([program, "--decode-sigs"], input=line.encode() + b"\n", capture_output=True, check=True)
        said = dict(re.findall(r"^([A-Z ]+): (.+)$", done.stdout.decode("latin-1"), re.MULTILINE))
        assert said["VIRUS NAME"] == line.split(":")[0]
        assert target in said["TARGET TYPE"]
        assert offset in said["OFFSET"]
        words = in_words("a.ndb", line.encode())
        assert ours in words[0]
        assert ours_too in words[1]
