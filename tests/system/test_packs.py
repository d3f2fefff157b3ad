"""A poll is one request and an update one more: counted on the wire, at an origin, an edge, and a mirror behind a plain web server."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldchain.agent.update import update
from coldchain.install import trusted
from coldchain.install.directory import ROOT_POLICY
from coldchain.mirror.directory import MirrorConfig, MirrorDirectory
from coldchain.mirror.pull import pull
from coldchain_server.signing.roles import now_utc
from tests.client.agent.publisher import metered
from tests.client.tuf.repository import digest
from tests.server import origins
from tests.server.edge.edges import edge, serves, url_of
from tests.server.memory import memory_folder
from tests.server.test_serve import serving
from tests.system.test_edges import endpoint, words


@contextlib.contextmanager
def plain_server(folder: Path) -> Iterator[str]:
    """A web server that knows nothing of any of this."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.timeout(240)
async def test_one_request_for_a_poll_and_one_more_for_an_update() -> None:
    with memory_folder() as folder:
        home = await origins.make(folder / "origin", now=now_utc())
        await origins.release(home, origins.FIRST, now=now_utc())
        mirror = MirrorDirectory(folder / "mirror")
        mirror.make()
        trusted.pin(mirror.own, home.pinned_root())

        async def mirrored(url: str) -> None:
            config = MirrorConfig("coldchain", ("jp",), digest(home.pinned_root()), (url,), ROOT_POLICY)
            mirror.write_config(config)
            with mirror.own.locked():
                await pull(mirror, config)

        async with (
            serving(home.directory, "--no-sign") as origin,
            edge(folder / "edge", *words(home, origin)) as one,
            contextlib.AsyncExitStack() as stack,
        ):
            await serves(one, 1)
            await mirrored(url_of(origin))
            plain = stack.enter_context(plain_server(mirror.path))
            places = {}
            for name, url in (("origin", url_of(origin)), ("edge", url_of(one)), ("mirror", plain)):
                relay, meter = await stack.enter_async_context(metered(url))
                places[name] = (endpoint(home, folder / f"client of {name}", relay), meter)
                assert (await update(places[name][0])).release == 1
            for number, files in enumerate((origins.SECOND, origins.THIRD), 2):
                await origins.release(home, files, now=now_utc())
                await serves(one, number)
                await mirrored(url_of(origin))
                for name, (client, meter) in places.items():
                    for release, asked in ((number, 2), (number, 1)):
                        meter.sent = b""
                        done = await update(client)
                        gets = meter.sent.count(b"GET ")
                        assert (done.release, done.requests, gets) == (release, asked, asked), name
            packs = {
                name: {path.name: path.read_bytes() for path in (place / "packs/jp/stable").glob("*.pack")}
                for name, place in (("origin", home.public), ("edge", folder / "edge"), ("mirror", mirror.path))
            }
            newest = max(int(path.split(".")[0]) for path in packs["origin"])
            same = {name: {p: d for p, d in one.items() if p.startswith(f"{newest}.")} for name, one in packs.items()}
            assert same["origin"] == same["edge"] == same["mirror"]
            assert len(same["origin"]) == 3
