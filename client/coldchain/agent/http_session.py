"""The library's session as we want it: nothing sent that we did not write, nothing kept, nothing unpacked, header lines bounded.

::

    skipped     Accept, Accept-Encoding, User-Agent: the library would send them by itself
    cookies     none are kept
    bodies      as they come, whatever they say of an encoding
    header      8 KiB a line, 64 lines
"""

from __future__ import annotations

import importlib.util
import ssl
from typing import TYPE_CHECKING, Final

from coldchain.agent.proxies import Proxy
from coldchain.agent.socks import socks_connector
from coldchain.errors import UsageError
from coldchain.limits import Limits

if TYPE_CHECKING:
    import aiohttp

_SKIPPED: Final = ("Accept", "Accept-Encoding", "User-Agent")


def http_session(limits: Limits, context: ssl.SSLContext | None, socks: Proxy | None) -> aiohttp.ClientSession:
    """A session for servers that are reached in one way.

    Args:
        limits: bounds.
        context: whom to believe, and who we are, over TLS; None for the system's.
        socks: the proxy of that kind; None for none, and for one of HTTP, which each request names.

    Raises:
        UsageError: aiohttp is not installed.
    """
    require_library()
    import aiohttp

    connector = socks_connector(socks, context) if socks else aiohttp.TCPConnector(ssl=context or True)
    return aiohttp.ClientSession(
        connector=connector,
        skip_auto_headers=_SKIPPED,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_seconds),
        max_line_size=limits.header_bytes,
        max_field_size=limits.header_bytes,
        max_headers=64,
    )


def require_library() -> None:
    """Whether servers can be asked here at all.

    Raises:
        UsageError: aiohttp is not installed.
    """
    if importlib.util.find_spec("aiohttp") is None:
        raise UsageError(
            "fetching over the network needs aiohttp, which is not installed",
            kept="what is installed stays in use",
            todo="install the extra: pip install 'coldchain[agent]'; or give a directory as --url",
        )
