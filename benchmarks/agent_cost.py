"""What an idle agent costs: memory, processor time and bytes of a poll that finds nothing new.

``python -m benchmarks.agent_cost [POLLS]`` makes an origin with one release of the feeds in ``fixtures/feeds`` (logged, cosigned,
signed), serves it with the real web room behind a relay that counts bytes, and starts ``coldchain agent`` as users do, once over
http and once over https with an authority of its own. Each poll (default: 200) is asked for with SIGUSR1 when the one before has
ended. Figures of the agent's process are Linux's: resident and proportional memory, and processor time of all its threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.log_cost import WITNESSES, found_origin, one_release, witness_services
from coldchain_server.demo import free_port
from coldchain_server.home import Home
from coldchain_server.web.origin import running

PROGRAM: Final = str(Path(sys.executable).parent / "coldchain")
IDLE_SECONDS: Final = 60


@dataclass
class Relay:
    """Counts what crosses the connections, without the headers of TCP and IP."""

    port: int = 0
    up: int = 0
    down: int = 0


@contextlib.asynccontextmanager
async def relaying(target: int) -> AsyncIterator[Relay]:
    relay = Relay()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", target)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, up: bool) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    relay.up += len(data) * up
                    relay.down += len(data) * (not up)
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, forth, up=True), pump(back, writer, up=False))

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()


class Watched:
    """A process and its lines on stderr."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def said(self, words: str) -> None:
        """Reads on to the line with these words."""
        assert self.process.stderr is not None
        async with asyncio.timeout(120):
            while line := (await self.process.stderr.readline()).decode():
                if words in line:
                    return
        raise SystemExit(f"the agent ended before it said {words!r}")

    def processor(self) -> float:
        """Seconds of all threads, those that have ended too."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> tuple[int, int]:
        """Resident and proportional kilobytes."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        found = {line.partition(":")[0]: int(line.split()[1]) for line in lines[1:]}
        return found["Rss"], found["Pss"]


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path] | None:
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 3 -nodes -subj /CN=x -keyout key.pem -out cert.pem"
    name = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([openssl, *words.split(), *name], cwd=folder, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, folder / "cert.pem"


async def measure(
    home: Home, folder: Path, polls: int, tls: tuple[ssl.SSLContext, Path] | None
) -> list[tuple[str, str]]:
    """Rows of one table."""
    endpoint, scheme = folder / ("tls" if tls else "plain"), "https" if tls else "http"
    rows: list[tuple[str, str]] = []
    async with running(home.storage, tls=tls[0] if tls else None) as origin, relaying(origin.port) as relay:
        root = str(home.public / "metadata" / "1.root.json")
        url = f"{scheme}://127.0.0.1:{relay.port}"
        init = await asyncio.create_subprocess_exec(
            PROGRAM, "init", str(endpoint), "--root", root, "--region", "us", "--url", url, stdout=-3
        )
        if await init.wait():
            raise SystemExit("coldchain init failed")
        if tls:
            (endpoint / "policy.toml").write_text(f'[network]\nca = "{tls[1]}"\n')
        one = Watched(await asyncio.create_subprocess_exec(PROGRAM, "agent", str(endpoint), stderr=-1, stdout=-3))
        try:
            await one.said("started: ")
            await asyncio.sleep(1)
            rows.append(("before the first poll: resident, proportional KB", "{:,} {:,}".format(*one.memory())))
            one.process.send_signal(signal.SIGUSR1)
            await one.said("installed: release 1")
            await asyncio.sleep(1)
            rows.append(("after the first installation", "{:,} {:,}".format(*one.memory())))
            used = one.processor()
            await asyncio.sleep(IDLE_SECONDS)
            rows.append((f"processor in {IDLE_SECONDS} idle seconds, ms", f"{(one.processor() - used) * 1e3:.0f}"))
            relay.up = relay.down = 0
            used = one.processor()
            for _ in range(polls):
                one.process.send_signal(signal.SIGUSR1)
                await one.said("current: release 1, quick check")
            rows.append(
                (f"processor of a poll (304), ms, mean of {polls}", f"{(one.processor() - used) / polls * 1e3:.1f}")
            )
            rows.append(("bytes of a poll, up and down", f"{relay.up / polls:,.0f} {relay.down / polls:,.0f}"))
            await asyncio.sleep(1)
            rows.append((f"after {polls} polls", "{:,} {:,}".format(*one.memory())))
        finally:
            one.process.terminate()
            await one.process.communicate()
    return rows


def main() -> None:
    """Prints the tables."""
    polls = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory(prefix="coldchain-agent-cost-") as name:
        folder = Path(name)
        ports = {witness: free_port() for witness in WITNESSES}
        home, vkey = asyncio.run(found_origin(folder, ports))
        with witness_services(folder, ports, vkey):
            asyncio.run(one_release(home, 1))
        for tls in (None, certificate(folder)):
            print(f"\n{'https' if tls else 'http'}")
            for label, value in asyncio.run(measure(home, folder, polls, tls)):
                print(f"  {label:<50} {value:>18}")


if __name__ == "__main__":
    main()
