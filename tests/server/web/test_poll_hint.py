"""How often endpoints are asked to poll: said by ``timestamp.json`` alone, in every answer about it, and to no shared cache."""

from __future__ import annotations

import aiohttp

from coldchain_server.web.origin import running
from tests.server.web.published import MemoryStorage

FILES = {"metadata/timestamp.json": b"{}", "metadata/1.root.json": b"{}", "log/checkpoint": b"x\n"}


async def test_only_the_timestamp_says_how_often() -> None:
    for seconds, said in ((0, "no-cache"), (900, "max-age=900, s-maxage=0")):
        async with running(MemoryStorage(FILES), poll_seconds=seconds) as origin, aiohttp.ClientSession() as session:
            url = f"{origin.url}/metadata/timestamp.json"
            async with session.get(url) as answer:
                assert (answer.status, answer.headers["Cache-Control"]) == (200, said)
                tag = answer.headers["ETag"]
            async with session.get(url, headers={"If-None-Match": tag}) as answer:
                assert (answer.status, answer.headers["Cache-Control"]) == (304, said)
            for path, kept in (
                ("metadata/1.root.json", "public, max-age=31536000, immutable"),
                ("log/checkpoint", "no-cache"),
            ):
                async with session.get(f"{origin.url}/{path}") as answer:
                    assert answer.headers["Cache-Control"] == kept
