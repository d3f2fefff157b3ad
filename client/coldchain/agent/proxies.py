"""Which proxy a request takes: as ``policy.toml`` says, else as the environment says. Pure; nothing is opened here.

::

    http://proxy.example:3128        absolute request lines for http, CONNECT for https
    https://proxy.example:3129       the same, with TLS to the proxy
    socks5://proxy.example:1080      SOCKS5; names are looked up here
    socks5h://user:word@p.example    SOCKS5 with a login; names are looked up by the proxy

Who is exempt (``no_proxy``): ``example.com`` is that host and all below it (``.example.com`` means the same), ``10.0.0.0/8`` are
addresses, ``host:8443`` one port, ``*`` everything. Worked example::

    NO_PROXY=intra.example,10.0.0.0/8   https://a.intra.example  direct     https://intra.example.org  proxy
                                        http://10.9.8.7          direct     http://11.0.0.1            proxy

From the environment come ``https_proxy`` or ``http_proxy``, then ``all_proxy``, in small letters first; ``HTTP_PROXY`` in capitals is
left alone as curl does it, because a CGI program gets it from whoever asks. The machine itself is never asked by way of the
environment's proxy. A login never appears in a message: what is shown is :attr:`Proxy.shown`.

Source: RFC 9110 9.3.6 (CONNECT), RFC 1928 and 1929 (SOCKS5), curl's documentation of the variables.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from coldchain.errors import UsageError

PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
MOST_EXEMPT: Final = 256


@dataclass(frozen=True, slots=True)
class Login:
    """User and password; neither is ever printed."""

    user: str = field(repr=False)
    password: str = field(repr=False)

    def basic(self) -> str:
        """The value of a Proxy-Authorization field."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy: ``scheme`` is one of :data:`PORTS`."""

    scheme: str
    host: str
    port: int
    login: Login | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The proxy without its login, for messages and for the library that speaks HTTP."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def socks(self) -> bool:
        """Whether it speaks SOCKS5."""
        return self.scheme.startswith("socks")


def parse_proxy(text: str, where: str) -> Proxy:
    """A proxy from its URL; one without a scheme is http.

    Args:
        text: the URL, which may hold a login (percent-encoded).
        where: whence it came, for messages. The text itself is never in one: it may hold a password.

    Raises:
        UsageError: it is none.
    """
    todo = "give it as http://host:port, https://…, socks5://… or socks5h://…; the login goes before the host: user:password@"
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > 1024:
        raise UsageError(f"{where} is not the URL of a proxy", todo=todo)
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{where} is not the URL of a proxy", todo=todo) from error
    if parts.scheme not in PORTS or not host or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(f"{where} is not the URL of a proxy", todo=todo)
    return Proxy(parts.scheme, host, port or PORTS[parts.scheme], _login(parts, where))


def _login(parts: SplitResult, where: str) -> Login | None:
    if parts.username is None:
        return None
    return check_login(unquote(parts.username), unquote(parts.password or ""), where)


def check_login(user: str, password: str, where: str) -> Login:
    """A login that every kind of proxy can be told.

    Raises:
        UsageError: it cannot.
    """
    if not 0 < len(user.encode()) <= 255 or len(password.encode()) > 255 or ":" in user:
        raise UsageError(f"{where}: a login is user:password of up to 255 bytes each, without a colon in the user")
    return Login(user, password)


def exempt(url: str, names: Iterable[str]) -> bool:
    """Whether one of ``names`` (see the module) covers the URL."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    port = parts.port or PORTS.get(parts.scheme, 0)
    return any(_covers(name.strip().lower(), host, port) for name in names)


def _covers(name: str, host: str, port: int) -> bool:
    if name == "*":
        return True
    address = _address(host)
    try:
        network = ipaddress.ip_network(name.strip("[]"), strict=False)
    except ValueError:
        pass
    else:
        return address is not None and address in network
    head, colon, tail = name.rpartition(":")
    if colon and tail.isdecimal() and (head.startswith("[") or ":" not in head):
        return int(tail[:6]) == port and _covers(head, host, port)
    bare = name.removeprefix("*").removeprefix(".").rstrip(".")
    return bool(bare) and (host == bare or (address is None and host.endswith(f".{bare}")))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def loopback(url: str) -> bool:
    """Whether the URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    address = _address(host)
    return address.is_loopback if address is not None else host == "localhost" or host.endswith(".localhost")


def environment_proxy(url: str, environment: Mapping[str, str], names: Iterable[str] | None = None) -> Proxy | None:
    """The proxy that the environment names for this URL; None for a direct way.

    Args:
        url: http or https.
        environment: of the process.
        names: who is exempt, instead of what ``no_proxy`` says.

    Raises:
        UsageError: a variable does not name a proxy.
    """
    if loopback(url):
        return None
    if names is None:
        names = (environment.get("no_proxy") or environment.get("NO_PROXY") or "").split(",")
    if exempt(url, names):
        return None
    scheme = urlsplit(url).scheme
    variables = [f"{scheme}_proxy", *(["HTTPS_PROXY"] if scheme == "https" else []), "all_proxy", "ALL_PROXY"]
    for variable in variables:
        if environment.get(variable):
            return parse_proxy(environment[variable], f"{variable} in the environment")
    return None
