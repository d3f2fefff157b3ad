"""Connections through a SOCKS5 proxy: the handshake as a generator without I/O, and a connector for aiohttp.

On the wire, for ``socks5h://user:word@proxy`` and ``https://a.example``, ``>`` what we send::

    > 05 02 00 02                                two ways to log in: none, or with a name
    < 05 02                                      with a name, please
    > 01 04 75 73 65 72 04 77 6f 72 64           "user", "word"
    < 01 00                                      welcome
    > 05 01 00 03 09 61 2e 65 … 01 bb            connect to a.example, port 443
    < 05 00 00 01 00 00 00 00 00 00              connected (and an address, which says nothing to us)

Every answer has a known length, so exactly that is read; after the last one the connection is the server's.
aiohttp has no public way to hand it a connected socket: one private method of its connector is replaced, which a test holds to.

Source: RFC 1928, RFC 1929.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

from coldchain.agent.proxies import Login, Proxy

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.client_proto import ResponseHandler

REFUSALS: Final = {
    1: "it failed",
    2: "its rules do not allow this connection",
    3: "the network cannot be reached",
    4: "the host cannot be reached",
    5: "the server refused the connection",
    6: "the connection took too long",
    7: "it does not know this command",
    8: "it does not know this kind of address",
}


class SocksError(OSError):
    """The proxy refused, or does not speak SOCKS5; the words are in ``strerror``."""

    def __init__(self, words: str) -> None:
        super().__init__(errno.ECONNREFUSED, words)


def handshake(host: str, port: int, login: Login | None) -> Generator[bytes | int, bytes, None]:
    """Yields bytes to send, or a number of bytes to read and send back into the generator; returns once connected.

    Args:
        host: a name (up to 255 bytes of ASCII) or an address.
        port: TCP port.
        login: for a proxy that asks for one.

    Raises:
        SocksError: the proxy refused, or its answer is none.
    """
    yield b"\x05\x02\x00\x02" if login else b"\x05\x01\x00"
    version, method = yield 2
    if version != 5:
        raise SocksError("this is no SOCKS5 proxy")
    if method == 2 and login:
        user, password = login.user.encode(), login.password.encode()
        yield b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password
        version, status = yield 2
        if version != 1 or status:
            raise SocksError("it refused the login")
    elif method:
        raise SocksError("it wants a login" if method in (2, 255) and not login else "it refused every way to log in")
    yield b"\x05\x01\x00" + _address(host) + port.to_bytes(2, "big")
    version, reply, _, kind = yield 4
    if version != 5:
        raise SocksError("this is no SOCKS5 proxy")
    if reply:
        raise SocksError(REFUSALS.get(reply, f"it refused with code {reply}"))
    if kind == 3:
        (length,) = yield 1
        yield length + 2
    elif kind in (1, 4):
        yield (4 if kind == 1 else 16) + 2
    else:
        raise SocksError("its answer is malformed")


def _address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii", "replace")
        if not 0 < len(name) <= 255:
            raise SocksError("a host's name has 1 to 255 letters") from None
        return b"\x03" + bytes([len(name)]) + name
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed


async def open_through(proxy: Proxy, host: str, port: int) -> socket.socket:
    """A socket that is connected to ``host`` by way of the proxy. The caller bounds the time.

    Raises:
        OSError: the proxy cannot be reached, broke off or refused (:class:`SocksError`).
    """
    loop = asyncio.get_running_loop()
    sock = await _connected(loop, proxy)
    try:
        steps = handshake(host, port, proxy.login)
        step = next(steps)
        while True:
            if isinstance(step, bytes):
                await loop.sock_sendall(sock, step)
                step = next(steps)
            else:
                step = steps.send(await _exactly(loop, sock, step))
    except StopIteration:
        return sock
    except BaseException:
        sock.close()
        raise


async def _connected(loop: asyncio.AbstractEventLoop, proxy: Proxy) -> socket.socket:
    refused: OSError = SocksError("it has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            refused = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise refused


async def _exactly(loop: asyncio.AbstractEventLoop, sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await loop.sock_recv(sock, count - len(data))
        if not more:
            raise SocksError("it broke off")
        data += more
    return data


def socks_connector(proxy: Proxy, context: ssl.SSLContext | None) -> aiohttp.TCPConnector:
    """A connector of aiohttp all of whose connections go through the proxy; ``context`` is for TLS to the servers."""
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

    class LeftToTheProxy(AbstractResolver):
        """Looks nothing up: the name itself is the address."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            return [ResolveResult(hostname=host, host=host, port=port, family=family, proto=0, flags=0)]

        async def close(self) -> None:
            return

    class SocksConnector(aiohttp.TCPConnector):
        async def _wrap_create_connection(
            self, *args: Any, addr_infos: Any, req: Any, client_error: Any = None, **kwargs: Any
        ) -> tuple[asyncio.Transport, ResponseHandler]:
            host, port = addr_infos[0][4][:2]
            seconds = kwargs.pop("timeout").sock_connect
            try:
                async with asyncio.timeout(seconds):
                    sock = await open_through(proxy, host, port)
                    try:
                        connected: tuple[asyncio.Transport, ResponseHandler]
                        connected = await self._loop.create_connection(*args, **kwargs, sock=sock)
                    except BaseException:
                        sock.close()
                        raise
                    return connected
            except ssl.CertificateError as error:
                raise aiohttp.ClientConnectorCertificateError(req.connection_key, error) from error
            except ssl.SSLError as error:
                raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
            except TimeoutError:
                raise
            except OSError as error:
                raise aiohttp.ClientProxyConnectionError(req.connection_key, error) from error

    resolver = LeftToTheProxy() if proxy.scheme == "socks5h" else None
    return SocksConnector(
        resolver=resolver, family=socket.AF_INET if resolver else socket.AF_UNSPEC, ssl=context or True
    )
