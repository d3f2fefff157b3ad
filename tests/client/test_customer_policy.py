"""The customer's policy file: read strictly, with the nearest known word for a wrong one; whatever bytes come, only our error."""

from __future__ import annotations

import contextlib
import itertools
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from coldchain import customer_policy
from coldchain.agent.network import network_of
from coldchain.customer_policy import CustomerPolicy, age_words, parse_customer_policy
from coldchain.engines.settings import engine_settings
from coldchain.errors import UsageError
from coldchain.install.policy_file import TEMPLATE
from coldchain.limits import LIMITS
from coldchain.tlog.policy import Demands
from coldchain.tlog.vkey import Kind
from tests.client.tlog.memory_log import Signing

TEAM = Signing.make("security.example.com/fleet")
KEYS = [bytes(SigningKey(bytes([n]) * 32).verify_key).hex() for n in range(3)]


def refusal(text: str) -> str:
    with pytest.raises(UsageError) as found:
        parse_customer_policy(text.encode())
    assert found.value.what.startswith("policy.toml: ")
    assert found.value.kept == "what is installed stays in use"
    assert found.value.todo
    return found.value.what


def test_no_file_and_a_file_of_comments_ask_for_nothing() -> None:
    assert parse_customer_policy(None) == CustomerPolicy()
    found = parse_customer_policy(b"# nothing\n")
    assert (found.words(), found.demands, found.approval) == ([], Demands(), None)
    assert found.digest


@pytest.mark.parametrize("data", [b"", b"\n", b" \t\r\n"])
def test_an_empty_file_is_an_accident_and_not_the_loosest_policy(data: bytes) -> None:
    with pytest.raises(UsageError, match="empty"):
        parse_customer_policy(data)


def test_the_worked_example_of_the_module() -> None:
    _, _, text = (customer_policy.__doc__ or "").partition("::\n\n")
    example = "\n".join(line for line in text.split("\n\nNothing in it")[0].split("\n"))
    found = parse_customer_policy(example.replace("security.example.com/fleet+…", TEAM.public.vkey).encode())
    assert found.release == customer_policy.ReleaseRules(timedelta(days=2), 42, True)
    assert (found.demands.witnesses, found.demands.jurisdictions, found.demands.rebuilds) == (2, 2, 1)
    assert list(found.demands.rebuilders) == ["alice"]
    assert found.approval is not None
    assert (found.approval.key, found.approval.url) == (TEAM.public, "https://security.example.com/coldchain")
    assert set(found.tables) == {"network", "engine", "corpora"}
    assert found.words() == [
        "hold: no new release is applied",
        "pin: no release above 42 is applied",
        "minimum age: 2d",
        "at least 2 witnesses",
        "at least 2 jurisdictions of witnesses",
        "at least 1 rebuilder",
        "approval by security.example.com/fleet",
    ]


def test_the_commented_file_that_init_writes_asks_for_nothing_and_every_line_of_it_can_be_switched_on() -> None:
    assert parse_customer_policy(TEMPLATE.encode()).words() == []
    switched = [
        line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in TEMPLATE.split("\n")
    ]
    found = parse_customer_policy("\n".join(switched).encode())
    assert len(found.words()) == 7
    assert network_of(found).mirrors == ("https://mirror.intra.example",)
    (engine,) = engine_settings(found.tables).engines
    assert len(engine.corpora.clean) == 2
    named = {key for keys in customer_policy.SECTIONS.values() for key in keys}
    for key in named:
        assert any(line.startswith((f"{key} = ", f"[log.{key}]")) for line in switched), key


def test_a_wrong_word_is_told_with_its_place_and_the_nearest_right_one() -> None:
    for text, place, near in (
        ("[relaese]\nhold = true", "'relaese'", "release"),
        ("[release]\nminimum_agee = '2d'", "release.'minimum_agee'", "release.minimum_age"),
        ("[release]\nHold = true", "release.'Hold'", "release.hold"),
        ("[log]\nwitness = 2", "log.'witness'", "log.witnesses"),
        ("[approval]\nkeys = 'x'", "approval.'keys'", "approval.key"),
        ("hold = true", "'hold'", ""),
        ("[release]\n'' = 1", "release.''", "release."),
        (f"[{'x' * 5000}]", "'xxx", ""),
    ):
        what = refusal(text)
        assert place in what
        assert f"the nearest one is {near}" in what
        assert len(what) < 300


@pytest.mark.parametrize(
    "text",
    [
        "release = 1",
        "[[release]]",
        "[release]\nhold = 1",
        "[release]\nhold = 'yes'",
        "[release]\npin = true",
        "[release]\npin = 0",
        "[release]\npin = -1",
        "[release]\npin = 42.0",
        "[release]\npin = 1000000000000000",
        f"[release]\npin = 1{'0' * 4990}",
        "[release]\nminimum_age = 2",
        "[release]\nminimum_age = ''",
        "[release]\nminimum_age = '2 d'",
        "[release]\nminimum_age = '-2d'",
        "[release]\nminimum_age = '2D'",
        "[release]\nminimum_age = '２d'",
        "[release]\nminimum_age = '999999999w'",
        "[log]\nwitnesses = true",
        "[log]\nwitnesses = -1",
        "[log]\nwitnesses = 1001",
        "[log]\nrebuilder = 'alice'",
        "[log]\nrebuilders = 1\n[log.rebuilder]\nalice = 'zz'",
        "[log]\nrebuilders = 1\n[log.rebuilder]\nalice = 1",
        f"[log]\nrebuilders = 1\n[log.rebuilder]\nalice = '{'00' * 32}'",
        f"[log]\nrebuilders = 1\n[log.rebuilder]\n'a b' = '{KEYS[0]}'",
        f"[log]\nrebuilders = 2\n[log.rebuilder]\nalice = '{KEYS[0]}'",
        f"[log]\nrebuilders = 2\n[log.rebuilder]\nalice = '{KEYS[0]}'\nbob = '{KEYS[0]}'",
        f"[log.rebuilder]\nalice = '{KEYS[0]}'",
        "[approval]",
        "[approval]\nurl = 'https://a.example'",
        "[approval]\nkey = 'x'",
        "[approval]\nkey = 1",
        f"[approval]\nkey = '{Signing.make('w', Kind.COSIGNATURE).public.vkey}'",
        f"[approval]\nkey = '{TEAM.public.vkey[:-4]}AAA='",
        f"[approval]\nkey = '{TEAM.public.vkey}'\nurl = ''",
        '[reports]\nsend = "yes"',
        "[reports]\nsend = 0",
        "[release",
        "a = 1\na = 2",
        "x = " + "[" * 30_000,
        "x = " + "{a=" * 20_000,
        f"[log]\nwitnesses = {'9' * 5000}",
        "\0",
        "#" + "x" * LIMITS.customer_policy_bytes,
    ],
)
def test_what_is_not_a_policy_is_refused_in_words(text: str) -> None:
    what = refusal(text)
    assert what.isprintable()
    assert len(what) < 400


SECTIONS = ["[release]\n", "[log]\n", "[approval]\n", "[reports]\n", "[log.rebuilder]\n", "[[engine]]\n", "[corpora]\n"]
LINES = [
    "hold = true\n",
    "pin = 42\n",
    "pin = 1e3\n",
    'minimum_age = "2d"\n',
    "witnesses = 2\n",
    "key = 'x'\n",
    "a.b.c = []\n",
]
CRUMBS = ["send = false\n", '"""', "'''", "\\", "{", "[", "=", "\n", "\x00", "é", "1979-05-27T07:32:00Z", "inf", "0x1"]
PIECES = st.sampled_from([*SECTIONS, *LINES, *CRUMBS])


@given(st.binary(max_size=200) | st.lists(PIECES, max_size=12).map(lambda parts: "".join(parts).encode()))
def test_any_bytes_are_a_policy_or_our_error(data: bytes) -> None:
    with contextlib.suppress(UsageError):
        assert len(parse_customer_policy(data).digest) == 64


def test_every_change_of_a_byte_of_a_good_file_is_a_policy_or_our_error() -> None:
    text = f"[release]\nminimum_age = '6h'\npin = 7\n[log]\nwitnesses = 2\n[approval]\nkey = '{TEAM.public.vkey}'\n".encode()
    for at, bit in itertools.product(range(len(text)), (1, 32, 128)):
        changed = text[:at] + bytes([text[at] ^ bit]) + text[at + 1 :]
        with contextlib.suppress(UsageError):
            parse_customer_policy(changed)


@given(st.integers(0, 10**9))
def test_an_age_is_written_as_it_can_be_read(seconds: int) -> None:
    text = age_words(timedelta(seconds=seconds))
    if seconds <= 3660 * 86400:
        found = parse_customer_policy(f"[release]\nminimum_age = '{text}'".encode())
        assert found.release.minimum_age == timedelta(seconds=seconds)


def test_the_page_names_every_key() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
    for section, keys in customer_policy.SECTIONS.items():
        assert f"[{section}]" in page
        for key in keys:
            assert f"`{key}`" in page or f"`{section}.{key}`" in page or f"[{section}.{key}]" in page, key
