"""The section [network]: every key, its bounds, and what is refused with the key's name."""

from __future__ import annotations

import contextlib
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.agent import network
from coldchain.agent.network import NetworkSettings, network_settings, read_network
from coldchain.agent.proxies import Login
from coldchain.errors import UsageError
from coldchain.install.directory import ClientDirectory
from coldchain.limits import LIMITS

EXAMPLE = "\n".join(
    line.strip() for line in str(network.__doc__).partition("::\n\n")[2].partition("Every key")[0].splitlines()
)


def table_of(**keys: object) -> dict[str, object]:
    return dict(keys)


def test_the_example_is_good_and_shows_every_key(tmp_path: Path) -> None:
    table = tomllib.loads(EXAMPLE)["network"]
    file = tmp_path / "login"
    file.write_text("fleet:secret:word\n")
    table["proxy_login"] = str(file)
    found = network_settings(table)
    assert found.mirrors == ("https://mirror.intra.example",)
    assert found.proxy is not None
    assert found.proxy.login == Login("fleet", "secret:word")
    assert set(table) == {one for one in NetworkSettings.__dataclass_fields__ if one != "direct"} | {"proxy_login"}
    del table["proxy_login"], table["mirrors"], table["proxy"], table["no_proxy"]
    for key in ("ca", "client_certificate", "client_key", "poll_seconds"):
        del table[key]
    assert network_settings(table) == NetworkSettings() == network_settings({})


def test_mirrors_come_first_and_may_be_all() -> None:
    configured = ("https://b.example", "https://a.example")
    table = table_of(mirrors=["https://a.example/", "/media/stick"])
    assert network_settings(table).urls(configured) == ("https://a.example", "/media/stick", "https://b.example")
    assert network_settings({**table, "only_mirrors": True}).urls(configured) == ("https://a.example", "/media/stick")
    assert NetworkSettings().urls(configured) == configured


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("prox", table_of(prox="x")),
        *[(name, {name: value}) for name in ("mirrors", "no_proxy") for value in ("x", [1], [""], ["a\nb"], ["x"] * 300)],
        ("mirrors", table_of(mirrors=["ftp://x"])),
        ("only_mirrors", table_of(only_mirrors=1)),
        ("only_mirrors", table_of(only_mirrors=True)),
        *[("proxy", {"proxy": value}) for value in (1, "", "ftp://x", "direct://", ["http://x"])],
        *[(name, {name: value}) for name in ("ca", "client_certificate", "proxy_login") for value in (1, "", "relative", "/a\0b")],
        ("proxy_login", table_of(proxy_login="/etc/x")),
        ("proxy_login", table_of(proxy="none", proxy_login="/etc/x")),
        ("proxy_login", table_of(proxy="http://x", proxy_login="/nowhere/at/all")),
        ("proxy_login", table_of(proxy="http://a:b@x", proxy_login="/etc/x")),
        ("client_key", table_of(client_key="/etc/x")),
        *[(name, {name: value}) for name, (least, most) in network._NUMBERS.items()
          for value in (least - 1, most + 1, "1", 1.5, True, None)],
        ("most_bytes_per_day", table_of(most_bytes_per_day=999)),
        ("most_bytes_per_second", table_of(most_bytes_per_second=10_000)),
        ("least_poll_seconds", table_of(least_poll_seconds=7200, most_poll_seconds=3600)),
        ("poll_seconds", table_of(poll_seconds=100)),
        ("poll_seconds", table_of(poll_seconds=7200, most_poll_seconds=3600)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_name(key: str, table: dict[str, object]) -> None:
    with pytest.raises(UsageError) as refused:
        network_settings(table)
    assert f"policy.toml, [network]: {key}" in refused.value.what or f"unknown key {key!r}" in refused.value.what


@pytest.mark.parametrize(
    "content", [b"", b"secret", b"user:secret\nmore", b"\xff:secret", b":secret", b"u" * 300 + b":secret"]
)
def test_a_file_that_holds_no_login_is_not_shown(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        network_settings({"proxy": "http://x", "proxy_login": str(file)})
    assert "proxy_login" in refused.value.what
    assert "secret" not in refused.value.explain()


KEYS = st.sampled_from([*NetworkSettings.__dataclass_fields__, "proxy_login", "other"])
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-1, 10**6)
    | st.text(max_size=20)
    | st.lists(st.text(max_size=9), max_size=3)
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_table_is_settings_or_a_usage_error(table: dict[str, object]) -> None:
    with contextlib.suppress(UsageError):  # and no other error
        network_settings(table)


def test_the_file_of_an_endpoint(tmp_path: Path) -> None:
    directory = ClientDirectory(tmp_path / "endpoint")
    directory.make()
    assert read_network(directory) == NetworkSettings()
    file = directory.path / "policy.toml"
    for text in ("# nothing\n", "[release]\nhold = true\n", "[network]\n"):
        file.write_text(text)
        assert read_network(directory) == NetworkSettings()
    file.write_text("[network]\nmost_bytes_per_day = 5_000_000\n")
    assert read_network(directory).most_bytes_per_day == 5_000_000
    for bad in (b"[network", b"\xff", b"network = 1", b"[[network]]", b"#" * (LIMITS.customer_policy_bytes + 1)):
        file.write_bytes(bad)
        with pytest.raises(UsageError, match=r"policy\.toml"):
            read_network(directory)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=r"policy\.toml"):
        read_network(directory)
    directory.make()  # the file is one of ours


def test_the_minimum_speed_is_the_customers() -> None:
    slow = network_settings({"minimum_bytes_per_second": 500})
    assert slow.limits(LIMITS).download_min_bytes_per_second == 500
    assert NetworkSettings().limits(LIMITS) is LIMITS
