"""Which proxy a URL takes, and what a SOCKS proxy is told."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.agent.proxies import PORTS, Login, Proxy, environment_proxy, exempt, parse_proxy
from coldchain.agent.socks import SocksError, handshake
from coldchain.errors import UsageError

PROXY = "http://p.example:3128"


def test_a_proxy_in_every_spelling() -> None:
    for scheme, (host, kept), port, login in itertools.product(
        PORTS,
        (("p.example", "p.example"), ("10.0.0.1", "10.0.0.1"), ("[fd00::1]", "fd00::1")),
        ("", ":8080"),
        ("", "user@", "user:@", "us%65r:p%40ss%3a%2f@"),
    ):
        found = parse_proxy(f"{scheme}://{login}{host}{port}", "here")
        assert (found.scheme, found.host, found.port) == (scheme, kept, 8080 if port else PORTS[scheme])
        assert found.login == (None if not login else Login("user", "p@ss:/" if "%" in login else ""))
        assert found.shown == f"{scheme}://{host}:{found.port}"
        assert found.socks == scheme.startswith("socks")
    assert parse_proxy("p.example:3128", "here") == Proxy("http", "p.example", 3128)
    assert Login("user", "word").basic() == "Basic dXNlcjp3b3Jk"


@pytest.mark.parametrize(
    "text",
    ["", "http://", "ftp://secret:secret@p", "http://p:secret", "http://p:99999", "http://p/secret", "http://p?secret", "a b",
     "http://secret:secret@", "http://[secret", "http://sécret@p", "socks4://secret@p", "http://:secret@p", "http://a%3asecret@p",
     f"http://{'secret' * 50}@p", "http://p#secret", "http://secret\n@p"],
)  # fmt: skip
def test_what_is_no_proxy_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_proxy(text, "the setting x")
    assert "the setting x" in refused.value.what
    assert "secret" not in refused.value.explain()


def test_a_login_is_never_printed() -> None:
    proxy = parse_proxy("socks5://fleet:secret@p.example", "here")
    assert "fleet" not in repr(proxy) + repr(proxy.login) + str(proxy) + proxy.shown
    assert "secret" not in repr(proxy) + repr(proxy.login) + str(proxy) + proxy.shown


@pytest.mark.parametrize(
    ("name", "covered", "free"),
    [
        ("example.com", ["example.com", "a.example.com", "A.Example.COM", "example.com."], ["example.com.org", "anexample.com"]),
        (".example.com", ["example.com", "a.b.example.com"], ["xexample.com"]),
        ("*.example.com", ["a.example.com"], ["example.org"]),
        ("EXAMPLE.com.", ["example.com"], ["com"]),
        ("*", ["anything", "10.0.0.1", "[::1]"], []),
        ("10.0.0.0/8", ["10.255.0.1"], ["11.0.0.1", "x.10.0.0.1.example"]),
        ("10.0.0.7", ["10.0.0.7"], ["10.0.0.70", "a.10.0.0.7.example", "0.10.0.0.7"]),
        ("fd00::/8", ["[fd12::1]"], ["[fe80::1]", "fd00.example"]),
        ("[::1]", ["[::1]"], ["[::2]"]),
        ("example.com:8443", [], ["example.com"]),
        ("", [], ["example.com", "10.0.0.1"]),
        (".", [], ["example.com"]),
        ("localhost", ["localhost"], ["127.0.0.1"]),
    ],
)  # fmt: skip
def test_who_is_exempt(name: str, covered: list[str], free: list[str]) -> None:
    for names in ([name], ["other.example", f" {name} "]):
        for host in covered:
            assert exempt(f"https://{host}/x", names), host
        for host in free:
            assert not exempt(f"https://{host}/x", names), host


def test_an_exemption_may_name_a_port() -> None:
    for host in ("example.com", "a.example.com", "10.0.0.1", "[fd00::1]"):
        name = f"{host.removeprefix('a.')}:8443"
        assert exempt(f"https://{host}:8443", [name])
        assert not exempt(f"https://{host}:8444", [name])
        assert not exempt(f"https://{host}", [name])
        assert exempt(f"https://{host}", [name.replace("8443", "443")])
        assert exempt(f"http://{host}", [name.replace("8443", "80")])


@given(st.text(max_size=30), st.sampled_from(["https://a.example", "http://10.0.0.1:8080", "https://[::1]"]))
def test_any_exemption_is_understood_or_covers_nothing(name: str, url: str) -> None:
    assert exempt(url, [name]) in (True, False)


def test_the_environment() -> None:
    other = "http://q.example:1"
    for scheme, environment, wanted in (
        ("https", {"https_proxy": PROXY}, True),
        ("https", {"HTTPS_PROXY": PROXY}, True),
        ("https", {"http_proxy": PROXY}, False),
        ("http", {"http_proxy": PROXY}, True),
        ("http", {"HTTP_PROXY": PROXY}, False),  # a CGI program's visitors could set it
        ("http", {"https_proxy": PROXY}, False),
        ("http", {"all_proxy": PROXY}, True),
        ("https", {"ALL_PROXY": PROXY}, True),
        ("https", {"https_proxy": PROXY, "all_proxy": other, "HTTPS_PROXY": other}, True),
        ("https", {"https_proxy": "", "all_proxy": PROXY}, True),
        ("https", {"all_proxy": PROXY, "no_proxy": "a.example"}, False),
        ("https", {"all_proxy": PROXY, "NO_PROXY": "b.example, a.example"}, False),
        ("https", {"all_proxy": PROXY, "NO_PROXY": "b.example"}, True),
        ("https", {}, False),
    ):
        found = environment_proxy(f"{scheme}://a.example/x", environment)
        assert found == (parse_proxy(PROXY, "") if wanted else None), (scheme, environment)
    for host in ("127.0.0.1", "127.3.2.1", "localhost", "[::1]", "a.localhost"):
        assert environment_proxy(f"http://{host}:8080", {"all_proxy": PROXY}) is None
    # the policy's exemptions stand in the place of the environment's
    assert environment_proxy("https://a.example", {"all_proxy": PROXY, "no_proxy": "*"}, ["b.example"]) is not None
    assert environment_proxy("https://b.example", {"all_proxy": PROXY}, ["b.example"]) is None
    with pytest.raises(UsageError, match="all_proxy in the environment"):
        environment_proxy("https://a.example", {"all_proxy": "ftp://x"})


# -- the SOCKS handshake ---------------------------------------------------------------------------------------------


def talk(host: str, login: Login | None, answers: bytes) -> tuple[list[bytes], bytes]:
    """What is sent, and what is left of the answers."""
    sent = []
    steps = handshake(host, 443, login)
    try:
        step = next(steps)
        while True:
            if isinstance(step, bytes):
                sent.append(step)
                step = next(steps)
            else:
                if len(answers) < step:
                    raise EOFError
                part, answers = answers[:step], answers[step:]
                step = steps.send(part)
    except StopIteration:
        return sent, answers


LOGIN = Login("user", "word")


def test_the_handshake_is_the_standards() -> None:
    for host, address in (
        ("a.example", b"\x03\x09a.example"),
        ("10.1.2.3", b"\x01\x0a\x01\x02\x03"),
        ("fd00::1", b"\x04\xfd" + bytes(14) + b"\x01"),
    ):
        for bound in (b"\x01" + bytes(6), b"\x04" + bytes(18), b"\x03\x05proxy\x00\x00"):
            connect = b"\x05\x01\x00" + address + b"\x01\xbb"
            assert talk(host, None, b"\x05\x00\x05\x00\x00" + bound + b"TLS") == ([b"\x05\x01\x00", connect], b"TLS")
            answers = b"\x05\x02\x01\x00\x05\x00\x00" + bound
            assert talk(host, LOGIN, answers) == ([b"\x05\x02\x00\x02", b"\x01\x04user\x04word", connect], b"")
            # a proxy that does not ask for the login does not get it
            assert talk(host, LOGIN, b"\x05\x00\x05\x00\x00" + bound)[0] == [b"\x05\x02\x00\x02", connect]


@given(st.binary(max_size=40), st.booleans(), st.text(max_size=300))
def test_any_answer_is_a_connection_or_a_refusal(answers: bytes, login: bool, host: str) -> None:
    try:
        sent, _ = talk(host, LOGIN if login else None, answers)
    except (SocksError, EOFError):
        return
    assert answers[0] == 5
    assert len(sent) >= 2


def test_a_name_that_cannot_be_told_is_refused() -> None:
    for host in ("", "a" * 256):
        with pytest.raises(SocksError):
            talk(host, None, b"\x05\x00")
