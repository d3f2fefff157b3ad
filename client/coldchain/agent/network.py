"""The section ``[network]`` of ``policy.toml``: how this endpoint reaches the servers, and what it may cost.

::

    [network]
    mirrors = ["https://mirror.intra.example"]     # asked before the URLs of `coldchain init`, in this order
    only_mirrors = false                           # true: nobody else is asked
    proxy = "http://proxy.intra.example:3128"      # http, https, socks5, socks5h; "none" for no proxy, whatever the environment says
    proxy_login = "/etc/coldchain/proxy-login"     # a file with one line user:password, so that this file holds no secret
    no_proxy = ["intra.example", "10.0.0.0/8"]     # who is asked without it
    ca = "/etc/coldchain/ca.pem"                   # believe these certificate authorities, and no others
    client_certificate = "/etc/coldchain/me.pem"   # for servers that want to know who asks
    client_key = "/etc/coldchain/me.key"           # unless the certificate's file holds it
    minimum_bytes_per_second = 8192                # a download slower than this on average, after its first minute, is given up
    most_bytes_per_second = 0                      # 0: as fast as it goes
    most_bytes_per_day = 0                         # 0: no cap; else 1 MB at least
    most_bytes_per_update = 0                      # 0: no cap
    poll_seconds = 3600                            # without it: what the server suggests, else 3600
    least_poll_seconds = 300                       # bounds on what a server may suggest
    most_poll_seconds = 86400
    wait = false                                   # true: hold a request open between polls, to hear of news at once

Every key may be left out. Whatever is unknown, of another type or out of range is an error that names the key, never a guess.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, NoReturn

from coldchain.agent.proxies import MOST_EXEMPT, Login, Proxy, check_login, environment_proxy, exempt, parse_proxy
from coldchain.agent.schedule import Rules
from coldchain.customer_policy import CustomerPolicy
from coldchain.errors import StorageError, UsageError
from coldchain.install.directory import MOST_URLS, ClientDirectory, normal_url, read_file
from coldchain.install.policy_file import read_customer_policy
from coldchain.limits import GIB, LIMITS, Limits

SECTION: Final = "policy.toml, [network]"
_LOGIN_BYTES: Final = 1024
_DAY: Final = 86_400
_NUMBERS: Final = {
    "minimum_bytes_per_second": (1, GIB),
    "most_bytes_per_second": (0, 1024 * GIB),
    "most_bytes_per_day": (0, 1024 * GIB),
    "most_bytes_per_update": (0, 1024 * GIB),
    "poll_seconds": (60, _DAY),
    "least_poll_seconds": (60, _DAY),
    "most_poll_seconds": (60, _DAY),
}
_LEAST_PER_DAY: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What the section says, checked; the module says what each key means. ``no_proxy`` None: as the environment says."""

    mirrors: tuple[str, ...] = ()
    only_mirrors: bool = False
    proxy: Proxy | None = None
    direct: bool = False
    no_proxy: tuple[str, ...] | None = None
    ca: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    minimum_bytes_per_second: int = LIMITS.download_min_bytes_per_second
    most_bytes_per_second: int = 0
    most_bytes_per_day: int = 0
    most_bytes_per_update: int = 0
    poll_seconds: int | None = None
    least_poll_seconds: int = 300
    most_poll_seconds: int = _DAY
    wait: bool = False

    def urls(self, configured: Sequence[str]) -> tuple[str, ...]:
        """Who is asked, in order: the mirrors, then the configured ones."""
        return tuple(dict.fromkeys((*self.mirrors, *(() if self.only_mirrors else configured))))

    def proxy_for(self, url: str, environment: Mapping[str, str] | None = None) -> Proxy | None:
        """The proxy for a URL; None for a direct way. ``environment`` None is the process's own.

        Raises:
            UsageError: the environment names something that is no proxy.
        """
        if self.direct:
            return None
        if self.proxy is not None:
            return None if exempt(url, self.no_proxy or ()) else self.proxy
        return environment_proxy(url, os.environ if environment is None else environment, self.no_proxy)

    def context(self) -> ssl.SSLContext | None:
        """For TLS; None when the system's own certificate authorities are believed and no certificate is shown.

        Raises:
            UsageError: a file is not what it must be; the words name the key.
        """
        if self.ca is None and self.client_certificate is None:
            return None
        context = self._trusting()
        if self.client_certificate is not None:
            try:
                context.load_cert_chain(self.client_certificate, self.client_key, _no_password)
            except (OSError, ValueError) as error:
                raise UsageError(
                    f"{SECTION}: client_certificate and client_key: {_reason(error)}",
                    todo="give a PEM file with the certificate and its chain, and one with its key, without a password",
                ) from error
        return context

    def _trusting(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{SECTION}: ca: {self.ca}: {_reason(error)}", todo="give a PEM file of certificates"
            ) from error

    def limits(self, limits: Limits) -> Limits:
        """The bounds with the customer's own minimum speed."""
        if self.minimum_bytes_per_second == LIMITS.download_min_bytes_per_second:
            return limits
        return replace(limits, download_min_bytes_per_second=self.minimum_bytes_per_second)

    def rules(self) -> Rules:
        """What the schedule of an agent needs to know."""
        return Rules(self.poll_seconds, self.least_poll_seconds, self.most_poll_seconds)


def _no_password() -> NoReturn:
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or getattr(error, "reason", None) or error)[:200]


def network_settings(table: Mapping[str, object]) -> NetworkSettings:
    """The settings from the section as TOML gives it.

    Raises:
        UsageError: a key is unknown, of another type, or out of range.
    """
    known = {one.name for one in fields(NetworkSettings)} - {"direct"} | {"proxy_login"}
    if unknown := sorted(set(table) - known):
        raise UsageError(f"{SECTION}: unknown key {unknown[0][:40]!r}", todo="keys are " + ", ".join(sorted(known)))
    found = _Table(table)
    default = NetworkSettings()
    proxy = found.proxy()
    ca, certificate, key = map(found.path, ("ca", "client_certificate", "client_key"))
    if key is not None and certificate is None:
        raise UsageError(f"{SECTION}: client_key without client_certificate")
    settings = NetworkSettings(
        mirrors=found.mirrors(),
        only_mirrors=found.flag("only_mirrors"),
        proxy=proxy,
        direct=table.get("proxy") == "none",
        no_proxy=found.texts("no_proxy", MOST_EXEMPT) if "no_proxy" in table else None,
        ca=ca,
        client_certificate=certificate,
        client_key=key,
        poll_seconds=found.number("poll_seconds", 0) or None,
        wait=found.flag("wait"),
        **{name: found.number(name, getattr(default, name)) for name in _NUMBERS if name != "poll_seconds"},
    )
    _check_together(settings)
    return settings


def _check_together(one: NetworkSettings) -> None:
    if one.only_mirrors and not one.mirrors:
        raise UsageError(f"{SECTION}: only_mirrors = true, and there are no mirrors")
    if 0 < one.most_bytes_per_day < _LEAST_PER_DAY:
        raise UsageError(f"{SECTION}: most_bytes_per_day is 0 or at least {_LEAST_PER_DAY:,}")
    if 0 < one.most_bytes_per_second < 2 * one.minimum_bytes_per_second:
        raise UsageError(
            f"{SECTION}: most_bytes_per_second is less than twice minimum_bytes_per_second ({one.minimum_bytes_per_second:,})",
            todo="lower the minimum as well: what is slower than that is given up",
        )
    if one.least_poll_seconds > one.most_poll_seconds:
        raise UsageError(f"{SECTION}: least_poll_seconds is more than most_poll_seconds")
    if one.poll_seconds and not one.least_poll_seconds <= one.poll_seconds <= one.most_poll_seconds:
        raise UsageError(f"{SECTION}: poll_seconds is not between least_poll_seconds and most_poll_seconds")


class _Table:
    """Reads keys by type."""

    def __init__(self, table: Mapping[str, object]) -> None:
        self._table = table

    def flag(self, name: str) -> bool:
        value = self._table.get(name, False)
        if not isinstance(value, bool):
            raise UsageError(f"{SECTION}: {name} is true or false")
        return value

    def number(self, name: str, default: int) -> int:
        value = self._table.get(name, default)
        least, most = _NUMBERS[name]
        if name in self._table and (type(value) is not int or not least <= value <= most):
            raise UsageError(f"{SECTION}: {name} is a whole number from {least} to {most}")
        assert isinstance(value, int)
        return value

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        value = self._table.get(name, [])
        if not isinstance(value, list) or len(value) > most or not all(_plain(one) for one in value):
            raise UsageError(f"{SECTION}: {name} is a list of up to {most} texts")
        return tuple(value)

    def mirrors(self) -> tuple[str, ...]:
        try:
            return tuple(dict.fromkeys(map(normal_url, self.texts("mirrors", MOST_URLS))))
        except UsageError as error:
            if error.what.startswith(SECTION):
                raise
            raise UsageError(f"{SECTION}: mirrors: {error.what}", todo=error.todo) from error

    def path(self, name: str) -> Path | None:
        value = self._table.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not _plain(value) or not Path(value).is_absolute():
            raise UsageError(f"{SECTION}: {name} is the absolute path of a file")
        return Path(value)

    def proxy(self) -> Proxy | None:
        value, file = self._table.get("proxy"), self.path("proxy_login")
        if value is None or value == "none":
            if file is not None:
                raise UsageError(f"{SECTION}: proxy_login without a proxy")
            return None
        where = f"{SECTION}: proxy"
        if not isinstance(value, str):
            raise UsageError(f'{where} is the URL of a proxy, or "none"')
        proxy = parse_proxy(value, where)
        if file is None:
            return proxy
        if proxy.login is not None:
            raise UsageError(f"{SECTION}: proxy_login, and a login in proxy too", todo="give one of them")
        return replace(proxy, login=_login(file))


def _login(file: Path) -> Login:
    where = f"{SECTION}: proxy_login"
    try:
        data = read_file(file, _LOGIN_BYTES)
        text = data.decode().removesuffix("\n") if data is not None else ""
    except StorageError as error:
        raise UsageError(f"{where}: {error.what}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: {file} is not UTF-8") from error
    user, colon, password = text.partition(":")
    if not colon or not text.isprintable():
        raise UsageError(f"{where}: {file} is not a readable file with one line user:password")
    return check_login(user, password, where)


def _plain(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 1024 and value.isprintable()


def read_network(directory: ClientDirectory) -> NetworkSettings:
    """The settings of an endpoint; the defaults when it has no ``policy.toml``.

    Raises:
        UsageError: the file is not in order.
    """
    return network_of(read_customer_policy(directory))


def network_of(policy: CustomerPolicy) -> NetworkSettings:
    """The settings in a customer's policy.

    Raises:
        UsageError: its section ``network`` is not in order.
    """
    table = policy.tables.get("network", {})
    if not isinstance(table, dict):
        raise UsageError(f"{SECTION} is not a section")
    return network_settings(table)
