"""``coldchain-server demo``: the whole journey on embedded defaults, with the real programs, in under a minute.

Every step runs the command a person would type and shows it. Only one thing is the demo's own: the *hostile edge*
(:class:`HostileEdge`), a mirror that serves the published files and lies in one chosen way. It works in::

    demo-run/origin       the publishing side: keys, catalogue, published files
    demo-run/witness-*    two witnesses of the public log
    demo-run/endpoint-us  one customer's endpoint    demo-run/endpoint-jp  another one, in a region with its own policy

It fails loudly: a step that does not end as told stops the demo with exit code 3.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from coldchain.errors import InternalError, UsageError
from coldchain_server.demo_coercion import special_release
from coldchain_server.gate.trial import present
from coldchain_server.home import Home
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.log_policy import policy_of
from coldchain_server.signing.roles import load_state, now_utc

MARK = ".coldchain-demo"
BIN = Path(sys.executable).parent
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "feeds"
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "snapshots"

NO_CLAMAV = "ClamAV is not installed on this machine"
SYSTEM_MEBIBYTES = 8
"""Of the machine's own files that each release is tried on: a publisher takes more (docs/gate.md)."""

_WIDTH = 140

Lie = Callable[[str, bytes, Path], bytes]


class Story:
    """Prints what happens: colours on a terminal, plain text in a pipe."""

    def __init__(self) -> None:
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.started = time.monotonic()

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def chapter(self, title: str) -> None:
        """A heading."""
        print(f"\n{self._paint('1;36', '== ' + title)}", flush=True)

    def say(self, text: str) -> None:
        """A sentence between commands."""
        print(f"   {text}", flush=True)

    def command(self, words: list[str]) -> None:
        """The command line about to run."""
        print(self._paint("1", "$ " + " ".join(words)), flush=True)

    def output(self, text: str) -> None:
        """What a command printed."""
        for line in text.rstrip().splitlines():
            print("   " + self._paint("2", line), flush=True)

    def good(self, text: str) -> None:
        """A result that is as promised."""
        print(f"   {self._paint('32', 'ok')}  {text}", flush=True)


class Demo:
    """Runs the programs in one directory and checks each exit code."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.story = Story()
        self.environment = dict(os.environ, COLDCHAIN_PASSPHRASE="demo", NO_COLOR="1")

    def run(self, *words: str, expect: int = 0, quiet: bool = False) -> str:
        """Runs a command from the demo's directory; anything but the expected exit code ends the demo."""
        if not quiet:
            self.story.command(list(words))
        done = subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        text = done.stdout + done.stderr
        if not quiet:
            self.story.output(text)
        if done.returncode != expect:
            if quiet:
                self.story.output(text)
            raise InternalError(
                f"'{' '.join(words)}' ended with {done.returncode}, not {expect}",
                kept=f"everything the demo wrote is in {self.directory.name}",
            )
        return done.stdout

    @contextmanager
    def serving(self, *words: str, port: int, name: str) -> Iterator[str]:
        """A server as a process of its own, until the block ends; its words go into ``NAME.log``."""
        words = (*words, "--port", str(port))
        self.story.command([*words, "&"])
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(BIN / words[0]), *words[1:]], cwd=self.directory, env=self.environment, stdout=log, stderr=log
            )
            url = f"http://127.0.0.1:{port}"
            try:
                self._wait_until_ready(process, url, name)
                yield url
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=20)

    def _wait_until_ready(self, process: subprocess.Popen[bytes], url: str, name: str) -> None:
        for _ in range(200):
            if process.poll() is not None:
                raise InternalError(f"{name} stopped with {process.returncode}; its words are in {name}.log")
            try:
                with urllib.request.urlopen(f"{url}/healthz", timeout=2):  # noqa: S310  our own loopback address
                    return
            except OSError:
                time.sleep(0.1)
        raise InternalError(f"{name} did not come up within 20 seconds; its words are in {name}.log")


class HostileEdge:
    """A mirror that serves published files after passing them through a lie.

    Args:
        public: the published tree.
        lie: called with (path, true bytes, public); returns the bytes to serve.
    """

    def __init__(self, public: Path, lie: Lie) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.lstrip("/")
                file = public / path
                if ".." in path or not file.is_file():
                    self.send_error(404)
                    return
                body = lie(path, file.read_bytes(), public)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.url

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def flip_one_byte(path: str, body: bytes, _: Path) -> bytes:
    """Changes one bit in the middle of every bundle file, and of every pack that holds one."""
    if not path.endswith((".ccd", ".pack")):
        return body
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def swap_regions(path: str, body: bytes, public: Path) -> bytes:
    """Serves the files of region us, whole and well signed, where those of jp are asked for."""
    folder, _, name = path.rpartition("/")
    digest_or_version, _, rest = name.partition(".")
    if folder == "metadata" and rest == "jp.json":
        return (public / folder / f"{digest_or_version}.us.json").read_bytes()
    if folder == "packs/jp/stable":
        return (public / "packs" / "us" / "stable" / name).read_bytes()
    if folder == "targets/jp/stable":
        found = (public / "targets" / "us" / "stable").glob(f"*.{rest}")
        return max(found, key=lambda file: file.stat().st_mtime).read_bytes()
    return body


def replay(timestamp: bytes) -> Lie:
    """Serves an old timestamp for ever, and everything else as it is."""
    return lambda path, body, _: timestamp if path == "metadata/timestamp.json" else body


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


JP_POLICY = """
[[regions.jp.policy]]
action = "leave-out"
kind = "signature"
name = "Acme.Test.Fileinfector-7"
reason = "matches a printer driver sold only in Japan; the maker ships a fix in March"
"""


def _feeds(demo: Demo, version: int) -> None:
    """Lays the feeds' files of one version where the demo's feeds point."""
    for feed in ("acme-hashes", "acme-rules", "acme-indicators"):
        target = demo.directory / "feeds" / feed
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(FIXTURES / f"v{version}" / feed, target)
    real = SAMPLES / "lmd-clamav" / f"v000{version + 1}"
    if real.is_dir():
        target = demo.directory / "feeds" / "lmd"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(real, target)


def _found(demo: Demo, ports: dict[str, int]) -> None:
    story = demo.story
    story.chapter("1. An origin in the neutral region: two witnesses, keys, regions, feeds")
    lines = []
    for name, port in ports.items():
        words = ["coldchain-server", "witness", f"witness-{name}", "--name", f"{name}.example/witness", "--demo-keys"]
        vkey = demo.run(*words, "--no-serve").split()[0]
        lines.append(f"witness {name} {vkey} http://127.0.0.1:{port}")
    lines += [f"group both all {' '.join(ports)}", "quorum both"]
    (demo.directory / "witnesses.policy").write_text("\n".join([*lines, ""]))
    story.say("witnesses.policy says whom customers believe about the public log: both of them, in two jurisdictions.")
    told = ["--policy", "witnesses.policy", "--log-name", "coldchain.example/log"]
    demo.run("coldchain-server", "init", "origin", "--demo-keys", *told)
    vkey = policy_of(asyncio.run(load_state(Home(demo.directory / "origin").storage))).logs[0].vkey
    for name in ports:
        demo.run("coldchain-server", "witness", f"witness-{name}", "--log", vkey, "--no-serve")
    regions = demo.directory / "origin" / "regions.toml"
    regions.write_text(regions.read_text() + JP_POLICY)
    with (demo.directory / "origin" / "settings.toml").open("a") as settings:
        settings.write(f"[gate]\nsystem_mebibytes = {SYSTEM_MEBIBYTES}\n")
    story.say("regions.toml now says what jp leaves out, and why (policies are public, each with a reason).")
    _feeds(demo, 1)
    for feed, kind in (("acme-hashes", "clamav"), ("acme-rules", "yara"), ("acme-indicators", "list")):
        demo.run("coldchain-server", "feed", "add", feed, f"feeds/{feed}", "--kind", kind, "--home", "origin")
    if (demo.directory / "feeds" / "lmd").is_dir():
        story.say("Real signatures are at hand: the Linux Malware Detect feed joins in.")
        demo.run("coldchain-server", "feed", "add", "lmd", "feeds/lmd", "--kind", "clamav", "--home", "origin")


def _release(demo: Demo, number: int) -> None:
    without = ["--without-gate", NO_CLAMAV] if present("clamav") else []
    demo.run("coldchain-server", "release", "build", "--home", "origin", *without)
    _gate(demo, number)
    demo.run("coldchain-server", "release", "approve", str(number), "--home", "origin")
    demo.run("coldchain-server", "release", "publish", str(number), "--home", "origin")


def _gate(demo: Demo, number: int) -> None:
    """Shows what the gate said, once."""
    if number != 1:
        return
    told = json.loads(demo.run("coldchain-server", "release", "show", "1", "--home", "origin", "--json", quiet=True))
    demo.story.say(
        "Before it was logged, the release was tried, in the bytes that will be served; its manifest says how:"
    )
    for one in told["manifest"]["gate"]:
        line = f"{one['check']:14} {one['result']:7} {one['detail']}"
        demo.story.output(line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…")


def _status(demo: Demo, directory: str) -> dict[str, object]:
    done: dict[str, object] = json.loads(demo.run("coldchain", "status", directory, "--json", quiet=True))
    return done


def _expect_release(demo: Demo, directory: str, number: int) -> None:
    found = _status(demo, directory).get("release")
    if found != number:
        raise InternalError(f"{directory} stands on release {found}, not {number}")
    demo.run("coldchain", "verify", directory, quiet=True)
    demo.story.good(f"{directory} stands on release {number}, whole and verified")


def _refused(demo: Demo, title: str, lie: Lie, code: int, number: int) -> None:
    story = demo.story
    story.say(title)
    with HostileEdge(demo.directory / "origin" / "public", lie) as url:
        demo.run("coldchain", "update", "endpoint-jp", "--url", url, expect=code)
    story.good(f"refused with exit code {code}")
    _expect_release(demo, "endpoint-jp", number)


def _sizes(demo: Demo) -> None:
    tree = demo.directory / "origin" / "public" / "targets" / "us" / "stable"
    full = max((f for f in tree.glob("*.full.ccd")), key=lambda f: f.stat().st_mtime).stat().st_size
    (delta,) = tree.glob("*.from-1.ccd")
    size = delta.stat().st_size
    demo.story.good(f"delta 1 -> 2: {size:,} bytes; the full bundle: {full:,} bytes ({full / size:,.0f} times as much)")


def _journey(demo: Demo) -> None:
    story = demo.story
    ports = {"zurich": free_port(), "tokyo": free_port()}
    _found(demo, ports)
    with ExitStack() as stack:
        story.chapter("2. Release 1: assembled, logged before two witnesses, approved by a second key, published")
        for name, port in ports.items():
            stack.enter_context(
                demo.serving("coldchain-server", "witness", f"witness-{name}", port=port, name=f"witness-{name}")
            )
        _release(demo, 1)
        url = stack.enter_context(demo.serving("coldchain-server", "serve", "origin", port=free_port(), name="origin"))
        story.chapter("3. Two endpoints in two regions fetch and verify it")
        for region in ("us", "jp"):
            directory = f"endpoint-{region}"
            root = ["--root", "origin/root.json"]
            demo.run("coldchain", "init", directory, *root, "--region", region, "--url", url)
            demo.run("coldchain", "update", directory)
        old_timestamp = (demo.directory / "origin" / "public" / "metadata" / "timestamp.json").read_bytes()
        demo.run("coldchain", "verify", "endpoint-us")
        story.say("What differs between the regions, and why:")
        demo.run("coldchain", "explain", "endpoint-us", "Acme.Test.Fileinfector-7")
        demo.run("coldchain", "explain", "endpoint-jp", "Acme.Test.Fileinfector-7")

        story.chapter("4. The feeds change: release 2 reaches an endpoint as a delta")
        _feeds(demo, 2)
        _release(demo, 2)
        _sizes(demo)
        demo.run("coldchain", "update", "endpoint-us")
        demo.run("coldchain", "diff", "endpoint-us", "1", "2", "--names", "1")
        story.say("A poll when nothing changed is one small request:")
        demo.run("coldchain", "update", "endpoint-us")

        story.chapter("5. An edge turns hostile: endpoint-jp still holds release 1")
        _refused(demo, "It serves the files of us, all well signed, to an endpoint in jp:", swap_regions, 12, 1)
        _refused(demo, "It flips one bit in every bundle it serves:", flip_one_byte, 12, 1)
        story.say("From the honest origin the same endpoint updates at once:")
        demo.run("coldchain", "update", "endpoint-jp")
        _expect_release(demo, "endpoint-jp", 2)
        _refused(demo, "It replays the timestamp of release 1, to hold updates back:", replay(old_timestamp), 13, 2)

        story.chapter("6. The operator is put under pressure: a release that nobody else shall see")
        _coerced(demo)


def _coerced(demo: Demo) -> None:
    """With all online keys and both region keys, but without an entry in the log."""
    story = demo.story
    copy = demo.directory / "origin-coerced"
    shutil.copytree(demo.directory / "origin", copy)
    home = Home(copy)
    keyring = Keyring(home.keys, lambda: demo.environment["COLDCHAIN_PASSPHRASE"])

    async def no_proof(_: bytes) -> None:
        return None

    special = asyncio.run(
        special_release(home, keyring, "jp", b"Acme.Special-1:0:*:7461726765746564", no_proof, now=now_utc())
    )
    story.say(f"All online keys and both region keys sign a special release for one endpoint in jp: {special.number}.")
    story.say("Every signature is good, and a client that trusts signatures alone would install it.")
    with HostileEdge(copy / "public", lambda _path, body, _public: body) as url:
        demo.run("coldchain", "update", "endpoint-jp", "--url", url, expect=16)
    story.good("refused with exit code 16")
    _expect_release(demo, "endpoint-jp", 2)


def _ending(demo: Demo) -> None:
    story = demo.story
    story.chapter(f"Done in {time.monotonic() - story.started:.0f} seconds. What to try next")
    home = demo.directory.name
    story.say(f"coldchain verify {home}/endpoint-us            every check, offline, in plain words")
    story.say(f"coldchain diff {home}/endpoint-us 1 2          what release 2 changed")
    story.say(f"coldchain-server serve {home}/origin           the origin again; its passphrase is 'demo'")
    story.say(f"change a byte below {home}/endpoint-us/current and verify again")
    story.say("README.md explains each step; docs/exit-codes.md lists what every exit code means.")


def main(directory: Path) -> None:
    """Runs the demo in ``directory``, which is made anew; only what an earlier demo made is removed for that.

    Raises:
        UsageError: the directory holds something else.
        InternalError: a step did not end as promised.
    """
    mark = directory / MARK
    if directory.exists():
        if any(directory.iterdir()) and not mark.is_file():
            raise UsageError(
                f"{directory.name} holds files that no demo made",
                kept="all of them",
                todo="name a directory that is not there yet: --directory DIR",
            )
        for one in sorted(directory.iterdir()):  # the mark stays: a removal that is broken off goes on the next time
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            elif one != mark:
                one.unlink()
    directory.mkdir(parents=True, exist_ok=True)
    mark.write_text("Made by coldchain-server demo, which removes this directory when it runs again.\n")
    demo = Demo(directory)
    demo.story.say(f"Everything happens in {directory.name}/ and with the commands shown.")
    _journey(demo)
    _ending(demo)
