"""The ways to a server, each over real sockets: proxies of both kinds with logins, own authorities, client certificates."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from coldchain.agent.network import NetworkSettings, network_settings
from coldchain.agent.socks import REFUSALS
from coldchain.agent.transport import Traffic, open_sources
from coldchain.errors import ColdchainError, ThrottledError, TransportError, UsageError
from tests.client.agent.proxy_servers import PASSWORD, SECRETS, USER, Authority, make_authority, proxying, serving_tls
from tests.client.agent.publisher import Edge, serving

BODY = b"a file"
PATH = "metadata/timestamp.json"
LOGIN = (USER, PASSWORD)
IN_URL = f"{quote(USER)}:{quote(PASSWORD, safe='')}@"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


async def get(url: str, network: NetworkSettings) -> bytes | None:
    async with open_sources([url], Traffic(), network=network) as (source,):
        return (await source.get(PATH, 100)).data


async def refusal(url: str, network: NetworkSettings) -> ColdchainError:
    with pytest.raises(ColdchainError) as refused:
        await get(url, network)
    told = refused.value.explain()
    cause: BaseException | None = refused.value
    while cause is not None:
        told += repr(cause) + str(cause)
        cause = cause.__cause__
    assert not [secret for secret in SECRETS if secret in told]
    return refused.value


@contextlib.asynccontextmanager
async def origin(authority: Authority, *, tls: bool, asks: bool = False) -> AsyncIterator[tuple[str, Edge]]:
    """``origin.test`` is a name that only the proxies know."""
    edge = Edge({PATH: BODY})
    if tls:
        async with serving_tls(edge, authority.server(asks_for_certificates=asks)) as port:
            yield f"https://origin.test:{port}", edge
    else:
        async with serving(edge) as url:
            yield url.replace("127.0.0.1", "origin.test"), edge


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("login", [None, LOGIN])
@pytest.mark.parametrize("kind", ["http", "socks"])
async def test_a_proxy_of_each_kind_leads_to_the_server(
    kind: str, login: tuple[str, str] | None, tls: bool, authority: Authority
) -> None:
    async with origin(authority, tls=tls) as (url, edge), proxying(kind, login) as proxy:
        scheme = "socks5h" if kind == "socks" else "http"
        table = {
            "proxy": f"{scheme}://{IN_URL if login else ''}127.0.0.1:{proxy.port}",
            "ca": str(authority.path("ca.pem")),
        }
        assert await get(url, network_settings(table)) == BODY
        ((way, host, _),) = proxy.asked
        assert host == "origin.test"  # the name went to the proxy; nobody here could have looked it up
        assert way == ("name" if kind == "socks" else "CONNECT" if tls else "GET")
        ((path, fields),) = edge.log
        assert path == PATH
        # the server learns nothing from the way: no login, and nothing about the client that a direct request would not show
        assert set(fields) == {"host"} | ({"connection"} if kind == "http" and not tls else set())


async def test_a_proxy_may_want_tls_itself(authority: Authority) -> None:
    for tls in (False, True):
        async with (
            origin(authority, tls=tls) as (url, _),
            proxying("http", LOGIN, tls=authority.server()) as proxy,
        ):
            table = {"proxy": f"https://{IN_URL}127.0.0.1:{proxy.port}", "ca": str(authority.path("ca.pem"))}
            assert await get(url, network_settings(table)) == BODY
            assert len(proxy.asked) == 1


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("kind", ["http", "socks"])
async def test_a_wrong_login_is_told_and_never_shown(kind: str, tls: bool, authority: Authority) -> None:
    async with origin(authority, tls=tls) as (url, edge), proxying(kind, (USER, "another")) as proxy:
        scheme = "socks5" if kind == "socks" else "http"
        for at in (IN_URL, ""):
            settings = network_settings(
                {"proxy": f"{scheme}h://{at}".replace("httph", "http") + f"127.0.0.1:{proxy.port}"}
            )
            error = await refusal(url, settings)
            assert type(error) is TransportError
            assert "login" in error.what
            assert f"{proxy.port}" in error.what
        assert edge.log == []


async def test_what_a_proxy_may_answer(authority: Authority) -> None:
    """None of it is taken for the server's; a proxy that is too busy is obeyed as a server is."""
    async with origin(authority, tls=True) as (url, edge):
        for answer, kind, words in (
            (b"HTTP/1.1 503 Busy\r\nRetry-After: 77\r\nContent-Length: 0\r\n\r\n", ThrottledError, "answers 503"),
            (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", TransportError, "answers 403"),
            (b"HTTP/1.1 302 There\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", TransportError, "answers 302"),
            (b"", TransportError, "cannot be reached"),
            (b"\x05\x00", TransportError, "127.0.0.1"),
        ):
            async with proxying("http", answer=answer) as proxy:
                error = await refusal(url, network_settings({"proxy": f"http://127.0.0.1:{proxy.port}"}))
                assert isinstance(error, kind)
                assert words in error.explain() or not words
                assert getattr(error, "retry_after", None) == (77.0 if kind is ThrottledError else None)
        assert edge.log == []


async def test_what_a_socks_proxy_may_answer(authority: Authority) -> None:
    answers = {bytes([5, 0, 5, code, 0, 1]) + bytes(6): words for code, words in REFUSALS.items()}
    answers |= {
        b"": "broke off",
        b"\x05": "broke off",
        b"HTTP/1.1 400 Bad Request\r\n\r\n": "no SOCKS5 proxy",
        b"\x05\xff": "wants a login",
        b"\x05\x01": "refused every way",
        b"\x05\x00\x04\x00\x00\x01" + bytes(6): "no SOCKS5 proxy",
        b"\x05\x00\x05\x00\x00\x09" + bytes(6): "malformed",
        b"\x05\x00\x05\x63\x00\x01" + bytes(6): "code 99",
    }
    for answer, words in answers.items():
        async with proxying("socks", answer=answer) as proxy:
            settings = network_settings({"proxy": f"socks5h://127.0.0.1:{proxy.port}"})
            error = await refusal("http://origin.test:9", settings)
            assert type(error) is TransportError
            assert words in error.what, (answer, error.what)


async def test_a_proxy_that_is_not_there_or_says_nothing(authority: Authority) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        for scheme in ("http", "socks5", "socks5h"):
            error = await refusal("http://origin.test", network_settings({"proxy": f"{scheme}://127.0.0.1:{port}"}))
            assert type(error) is TransportError
            assert f"127.0.0.1:{port}" in error.what or scheme == "socks5"  # whose name is looked up here, in vain


async def test_socks5_looks_names_up_here_and_socks5h_there() -> None:
    edge = Edge({PATH: BODY})
    async with serving(edge) as url, proxying("socks") as proxy:
        named = url.replace("127.0.0.1", "localhost")
        for scheme, way in (("socks5", "address"), ("socks5h", "name")):
            assert await get(named, network_settings({"proxy": f"{scheme}://127.0.0.1:{proxy.port}"})) == BODY
            assert proxy.asked[-1][0] == way


async def test_who_is_exempt_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    edge = Edge({PATH: BODY})
    async with serving(edge) as url, proxying("http") as proxy:
        there = f"http://127.0.0.1:{proxy.port}"
        for exempt, count in ((["127.0.0.0/8"], 0), (["10.0.0.0/8"], 1)):
            assert await get(url, network_settings({"proxy": there, "no_proxy": exempt})) == BODY
            assert len(proxy.asked) == count
        # by the environment this machine itself is asked directly, and others are not
        monkeypatch.setenv("http_proxy", there)
        assert await get(url, NetworkSettings()) == BODY
        assert len(proxy.asked) == 1
        named = url.replace("127.0.0.1", "origin.test")
        assert await get(named, NetworkSettings()) == BODY
        assert len(proxy.asked) == 2
        error = await refusal(named, network_settings({"proxy": "none"}))  # the policy wins
        assert "cannot be reached" in error.what


# -- certificates ----------------------------------------------------------------------------------------------------


async def test_only_ones_own_authority_is_believed(authority: Authority) -> None:
    async with origin(authority, tls=True) as (url, edge):
        direct = url.replace("origin.test", "127.0.0.1")
        for ca in ("other.pem", None):
            table = {"ca": str(authority.path(ca))} if ca else {}
            assert "certificate" in (await refusal(direct, network_settings(table))).what
        assert edge.log == []
        assert await get(direct, network_settings({"ca": str(authority.path("ca.pem"))})) == BODY


async def test_a_server_that_wants_to_know_who_asks(authority: Authority) -> None:
    async with origin(authority, tls=True, asks=True) as (url, edge):
        direct = url.replace("origin.test", "127.0.0.1")
        table = {"ca": str(authority.path("ca.pem"))}
        assert type(await refusal(direct, network_settings(table))) is TransportError
        assert edge.log == []
        table |= {
            name: str(authority.path(f"client.{end}"))
            for name, end in (("client_certificate", "pem"), ("client_key", "key"))
        }
        assert await get(direct, network_settings(table)) == BODY
        async with proxying("socks") as proxy:
            assert await get(url, network_settings(table | {"proxy": f"socks5h://127.0.0.1:{proxy.port}"})) == BODY


async def test_files_that_are_not_what_they_must_be(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    good = {"ca": "ca.pem", "client_certificate": "client.pem", "client_key": "client.key"}
    for key, value in (
        ("ca", "client.key"),
        ("ca", "missing.pem"),
        ("ca", str(tmp_path / "empty")),
        ("client_certificate", "missing.pem"),
        ("client_certificate", "client.key"),
        ("client_key", "server.key"),
        ("client_key", "missing.key"),
        ("client_key", "locked.key"),  # asks nobody for its password
    ):
        table = {name: str(authority.path(file)) for name, file in (good | {key: value}).items()}
        with pytest.raises(UsageError) as refused:
            await get("https://127.0.0.1:9", network_settings(table))
        assert f"[network]: {'client_certificate and client_key' if key != 'ca' else 'ca'}: " in refused.value.what
        assert ("the key is encrypted" in refused.value.what) == (value == "locked.key")


# -- other people's proxies ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def program(words: list[str], port: int) -> Iterator[None]:
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.interop
@pytest.mark.parametrize("name", ["microsocks", "tinyproxy"])
async def test_somebody_elses_proxy(name: str, authority: Authority, tmp_path: Path) -> None:
    port = free_port()
    user, password = "fleet", "secret1"
    if name == "tinyproxy":
        config = tmp_path / "tinyproxy.conf"
        config.write_text(f"Port {port}\nListen 127.0.0.1\nBasicAuth {user} {password}\nAllow 127.0.0.1\nTimeout 20\n")
        words, scheme = [name, "-d", "-c", str(config)], "http"
    else:
        words, scheme = [name, "-i", "127.0.0.1", "-p", str(port), "-u", user, "-P", password], "socks5h"
    with program(words, port):
        for tls in (False, True):
            async with origin(authority, tls=tls) as (url, edge):
                url = url.replace("origin.test", "127.0.0.1")
                table = {"ca": str(authority.path("ca.pem"))}
                good = network_settings(table | {"proxy": f"{scheme}://{user}:{password}@127.0.0.1:{port}"})
                assert await asyncio.wait_for(get(url, good), 30) == BODY
                assert len(edge.log) == 1
                for login in ("", f"{user}:another@"):
                    bad = network_settings(table | {"proxy": f"{scheme}://{login}127.0.0.1:{port}"})
                    assert isinstance(await refusal(url, bad), TransportError)
                assert len(edge.log) == 1


def test_the_replaced_method_of_the_library_is_still_there() -> None:
    """If this fails, the library's connector has changed: look at coldchain.agent.socks."""
    import inspect

    import aiohttp

    parameters = inspect.signature(aiohttp.TCPConnector._wrap_create_connection).parameters
    assert {"addr_infos", "req", "timeout", "client_error", "kwargs"} <= set(parameters)
    assert ssl.HAS_SNI
