"""Policies: the C2SP file, read strictly; quorums against a plain recursion; what dates and jurisdictions take away."""

from __future__ import annotations

import itertools
from contextlib import suppress
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import ColdchainError, EvidenceError, MalformedError
from coldchain.limits import Limits
from coldchain.tlog import policy as module
from coldchain.tlog.policy import Group, Policy, parse_policy
from tests.client.tlog.logs import LOG, ONE, SIGNED_AT, witness

NOW = datetime(2026, 6, 1, tzinfo=UTC)
W = {name: witness(number) for number, name in enumerate("abcdef", 10)}
HEAD = f"log {LOG.vkey}\n" + "".join(f"witness {name} {signer.vkey}\n" for name, signer in W.items())
ML_DSA = "wit.example/pq+00000000+Bg" + "AA" * 9


def policy(tail: str, head: str = HEAD) -> Policy:
    return parse_policy((head + tail).encode())


def at(*names: str, time: int = SIGNED_AT) -> dict[str, int]:
    return dict.fromkeys(names, time)


# The file


def test_the_worked_example_of_the_module() -> None:
    assert module.__doc__ is not None
    block = module.__doc__.split("::\n", 1)[1].split("The second part")[0]
    lines = [line.strip().split("   ")[0] for line in block.strip().split("\n")]
    text = "\n".join(lines) + "\n"
    for name, signer in (("two", W["a"]), ("three", W["b"])):
        text = text.replace(f"witness {name} ...", f"witness {name} {signer.vkey}")
    read = parse_policy(text.encode())
    assert read.log_keys == [LOG.key]
    assert list(read.witness_keys) == [ONE.key, W["a"].key, W["b"].key]
    assert read.groups == {
        "abroad": Group("abroad", 1, ("two", "three")),
        "quorum-1": Group("quorum-1", 2, ("one", "abroad")),
    }
    assert (read.quorum, read.jurisdictions, read.logs[0].url) == ("quorum-1", 2, "https://log.example/test")
    two = read.witnesses["two"]
    assert (two.jurisdiction, two.since, two.until) == ("jp", date(2026, 1, 1), date(2027, 1, 1))
    assert (set(read.rebuilders), read.rebuilds) == ({"alice"}, 1)
    assert parse_policy(read.encode()) == read
    assert read.evaluate(at("one", "three"), NOW).satisfied
    assert read.evaluate(at("one", "two"), NOW).lacking == (
        "quorum-1: 1 of 2 needed (abroad: 0 of 1 needed (two: it signed before its first day, 2026-01-01; three: no cosignature))"
    )


def test_blanks_and_comments() -> None:
    plain = policy("group g 2 a b\nquorum g\n")
    spaced = (
        HEAD.replace("witness ", "\t witness \t ")
        + "  # comment\n\n \t\n#\n#quorum b\n group g  2 a\tb \nquorum g\t\n# end\n"
    )
    assert parse_policy(spaced.encode()) == plain
    for said in ("# cold chain: nothing", "# the coldchain: witness", "# coldchain is us", "## recoldchain:"):
        assert policy(f"{said}\ngroup g 2 a b\nquorum g\n") == plain


def test_a_policy_comes_back() -> None:
    for tail in (
        "quorum none\n",
        "quorum a\n",
        "group x any a b\ngroup y 2 c d x\ngroup z all y e\nquorum z\n",
        "quorum a\n# coldchain: witness a jurisdiction=us-ca from=2026-01-01\n# coldchain: witness b until=2026-01-01\n",
        "quorum a\n# coldchain: witness a jurisdiction=ch\n# coldchain: jurisdictions 1\n",
    ):
        read = policy(tail)
        assert parse_policy(read.encode()) == read
        assert parse_policy(read.encode()).encode() == read.encode()


@pytest.mark.parametrize(
    "tail",
    [
        "",
        "quorum a",
        "quorum\n",
        "quorum g\n",
        "quorum a b\n",
        "quorum a\nquorum a\n",
        "quorum none\nquorum none\n",
        "Quorum a\n",
        "quorum a\nrubbish\n",
        "quorum a\nlog\n",
        "quorum a\nlog x\n",
        f"quorum a\nlog {LOG.vkey}\n",
        f"quorum a\nlog {ONE.vkey}\n",
        f"quorum a\nlog {W['a'].vkey}\n",
        "quorum a\nwitness\n",
        "quorum a\nwitness x\n",
        f"quorum a\nwitness x {LOG.vkey}\n",
        f"quorum a\nwitness x {W['a'].vkey}\n",
        f"quorum a\nwitness a {ONE.vkey}\n",
        f"quorum a\nwitness none {ONE.vkey}\n",
        f"quorum a\nwitness x {ONE.vkey} url more\n",
        f"quorum a\nwitness x {ONE.vkey[:-1]}\n",
        f"quorum x\nwitness x {ONE.vkey}\n",
        "group g\nquorum a\n",
        "group g all\nquorum a\n",
        "group g 1\nquorum a\n",
        "group g 0 a b\nquorum a\n",
        "group g 3 a b\nquorum a\n",
        "group g 01 a b\nquorum a\n",
        "group g +1 a b\nquorum a\n",
        "group g -1 a b\nquorum a\n",
        "group g most a b\nquorum a\n",
        "group g ALL a b\nquorum a\n",
        "group g ¹ a b\nquorum a\n",
        "group a all b\nquorum a\n",
        "group none all b\nquorum a\n",
        "group g all none\nquorum a\n",
        "group g all x\nquorum a\n",
        "group g all g\nquorum a\n",
        "group g all a a\nquorum a\n",
        "group g all a\ngroup h all a\nquorum g\n",
        "group g all h\ngroup h all a\nquorum g\n",
        "group g all a\ngroup g all b\nquorum g\n",
        "quorum a\n# coldchain: witness a\n",
        "quorum a\n# coldchain: witness x jurisdiction=jp\n",
        "quorum a\n# coldchain: witness a jurisdiction=\n",
        "quorum a\n# coldchain: witness a jurisdiction=JP\n",
        "quorum a\n# coldchain: witness a jurisdiction=jp jurisdiction=jp\n",
        "quorum a\n# coldchain: witness a jurisdiction = jp\n",
        "quorum a\n# coldchain: witness a country=jp\n",
        "quorum a\n# coldchain: witness a from=2026-1-1\n",
        "quorum a\n# coldchain: witness a from=20260101\n",
        "quorum a\n# coldchain: witness a from=2026-02-30\n",
        "quorum a\n# coldchain: witness a from=2026-W01-1\n",
        "quorum a\n# coldchain: witness a from=\n",
        "quorum a\n# coldchain: witness a from=2026-01-01 until=2026-01-01\n",
        "quorum a\n# coldchain: witness a from=2026-01-01\n# coldchain: witness a until=2027-01-01\n",
        "quorum a\n# coldchain: jurisdictions\n",
        "quorum a\n# coldchain: jurisdictions 0\n",
        "quorum a\n# coldchain: jurisdictions 1\n",
        "quorum none\n# coldchain: witness a jurisdiction=jp\n# coldchain: jurisdictions 1\n",
        "quorum a\n# coldchain: witness b jurisdiction=jp\n# coldchain: jurisdictions 1\n",
        "quorum a\n# coldchain: witness a jurisdiction=jp\n# coldchain: jurisdictions 1\n# coldchain: jurisdictions 1\n",
        "quorum a\n# coldchain: rubbish\n",
        "quorum a\n# coldchain:\n",
        "quorum a\n#coldchain: jurisdictions 1\n",
        "quorum a\n# Coldchain: witness a until=2020-01-01\n",
        "quorum a\n## coldchain: witness a until=2020-01-01\n",
        "quorum a\n# coldchain : witness a until=2020-01-01\n",
        "quorum a\n# coldchain:witness a until=2020-01-01\n",
        "quorum a\r\n",
        "quorum a\n# \x00\n",
        "quorum a\n# \x7f\n",
        "quorum\u00a0a\n",
    ],
)
def test_what_no_policy_is(tail: str) -> None:
    with pytest.raises(MalformedError, match="log policy"):
        policy(tail)


def test_a_file_without_a_log_is_no_policy() -> None:
    with pytest.raises(MalformedError, match="no log"):
        parse_policy(HEAD.split("\n", 1)[1].encode() + b"quorum none\n")
    with pytest.raises(MalformedError, match="UTF-8"):
        parse_policy(HEAD.encode() + b"quorum a\n# \xff\n")


def test_the_message_names_the_line() -> None:
    with pytest.raises(MalformedError, match="line 9: not understood: 'quorun a'"):
        policy("\nquorun a\n")


def test_the_bounds() -> None:
    data = HEAD.encode() + b"quorum a\n"
    assert parse_policy(data, Limits(log_policy_bytes=len(data), log_policy_lines=8)).quorum == "a"
    for limits in (Limits(log_policy_bytes=len(data) - 1), Limits(log_policy_lines=7)):
        with pytest.raises(MalformedError, match="longer than allowed"):
            parse_policy(data, limits)


def test_32_logs_witnesses_and_groups_and_far_more() -> None:
    people = {f"w{number}": witness(number) for number in range(1, 200)}
    head = f"log {LOG.vkey}\n" + "".join(f"witness {name} {one.vkey}\n" for name, one in people.items())
    # the deepest file: each group has a witness and the group before
    chain = "group g1 all w1\n" + "".join(f"group g{n} all w{n} g{n - 1}\n" for n in range(2, 200)) + "quorum g199\n"
    read = policy(chain, head)
    assert read.evaluate(at(*people), NOW).satisfied
    assert sorted(read.witnesses_of("g199")) == sorted(people)
    assert len(read.evaluate(at(*list(people)[1:]), NOW).lacking) < 2000
    deep = "group g1 all a\n" + "".join(f"group g{n} all g{n - 1}\n" for n in range(2, 4000)) + "quorum g3999\n"
    assert policy(deep).evaluate(at("a"), NOW).satisfied
    assert policy(deep).evaluate({}, NOW).lacking.startswith("g3999: 0 of 1 needed (g3998: ")


# Quorums


def naive(read: Policy, name: str, there: set[str]) -> bool:
    if name in read.witnesses:
        return name in there
    group = read.groups[name]
    return sum(naive(read, member, there) for member in group.members) >= group.least


@given(st.data())
def test_quorums_are_what_the_groups_say(data: st.DataObject) -> None:
    free, lines = list(W), []
    for number in range(data.draw(st.integers(0, 5))):
        if not free:
            break
        members = data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
        least = data.draw(st.one_of(st.sampled_from(["any", "all"]), st.integers(1, len(members)).map(str)))
        lines.append(f"group g{number} {least} {' '.join(members)}\n")
        free = [name for name in free if name not in members] + [f"g{number}"]
    quorum = data.draw(st.sampled_from([*W, *(line.split()[1] for line in lines)]))
    read = policy("".join(lines) + f"quorum {quorum}\n")
    assert parse_policy(read.encode()) == read
    for count in range(len(W) + 1):
        for there in itertools.combinations(W, count):
            verdict = read.evaluate(at(*there), NOW)
            assert verdict.satisfied == naive(read, quorum, set(there))
            assert set(verdict.counted) == set(there)
            assert set(verdict.uncounted) == set(W) - set(there)


def test_quorum_none_asks_for_nobody() -> None:
    assert policy("quorum none\n").evaluate({}, NOW).satisfied


def test_a_stranger_does_not_count() -> None:
    verdict = policy("group g 2 a b\nquorum g\n").evaluate(at("a", "x"), NOW)
    assert not verdict.satisfied
    assert set(verdict.counted) == {"a"}


def test_require_names_who_is_missing() -> None:
    with pytest.raises(EvidenceError, match=r"g: 1 of 2 needed \(b: no cosignature; c: no cosignature\)"):
        policy("group g 2 a b c\nquorum g\n").require(at("a"), NOW)


def test_a_key_of_an_unknown_kind_is_listed_and_never_counts() -> None:
    read = policy(f"witness pq {ML_DSA}\ngroup g 2 a pq\nquorum g\n")
    verdict = read.evaluate(at("a", "pq"), NOW)
    assert verdict.lacking == "g: 1 of 2 needed (pq: its key is of a kind this client does not know)"
    assert parse_policy(read.encode()) == read
    assert policy(f"log {ML_DSA}\nquorum none\n").log_keys == [LOG.key]


# Dates


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def test_a_witness_counts_from_its_first_day_until_its_last_is_over() -> None:
    read = policy("quorum a\n# coldchain: witness a from=2026-01-01 until=2026-02-01\n")
    for text, counts in {
        "2025-12-31T23:59:59+00:00": False,
        "2026-01-01T00:00:00+00:00": True,
        "2026-01-01T00:00:00+09:00": False,
        "2026-01-31T23:59:59+00:00": True,
        "2026-02-01T00:00:00+00:00": False,
    }.items():
        assert read.evaluate(at("a", time=seconds(text)), NOW).satisfied == counts, text
    assert "first day" in read.evaluate(at("a", time=1), NOW).lacking
    assert "days were over" in read.evaluate(at("a", time=seconds("2026-03-01T00:00:00+00:00")), NOW).lacking
    # it is the time of the signature that counts, not the time of the look
    assert read.evaluate(at("a", time=seconds("2026-01-15T00:00:00+00:00")), datetime(2036, 1, 1, tzinfo=UTC)).satisfied


def test_a_time_ahead_of_the_clock_does_not_count() -> None:
    read = policy("quorum a\n")
    now = int(NOW.timestamp())
    assert read.evaluate(at("a", time=now + 24 * 3600), NOW).satisfied
    for time in (now + 24 * 3600 + 1, 2**63 - 1):
        assert "clock" in read.evaluate(at("a", time=time), NOW).lacking
    assert not read.evaluate(at("a", time=now + 11), NOW, Limits(cosignature_ahead_seconds=10)).satisfied


def test_the_first_and_last_days_of_the_calendar() -> None:
    for facts in ("from=0001-01-01", "until=0001-01-01", "from=9999-12-31", "until=9999-12-31"):
        policy(f"quorum a\n# coldchain: witness a {facts}\n").evaluate(at("a"), NOW)


# Jurisdictions


def test_jurisdictions_are_counted_among_the_quorums_witnesses() -> None:
    facts = "".join(
        f"# coldchain: witness {name} jurisdiction={where}\n"
        for name, where in zip("abcf", ("jp", "jp", "ch", "us"), strict=True)
    )
    read = policy(f"group g 2 a b c d\nquorum g\n{facts}# coldchain: jurisdictions 2\n")
    for there, satisfied in {
        "ac": True,
        "bc": True,
        "abc": True,
        "acd": True,
        "ab": False,
        "ad": False,
        "abf": False,
    }.items():
        assert read.evaluate(at(*there), NOW).satisfied == satisfied, there
    assert read.evaluate(at("a", "b"), NOW).lacking == "1 of 2 needed jurisdictions (jp)"
    assert read.evaluate(at("a"), NOW).lacking.startswith("g: 1 of 2")


def test_whoever_skips_the_extension_accepts_all_that_is_accepted_here() -> None:
    facts = "# coldchain: witness a jurisdiction=jp until=2024-01-01\n# coldchain: witness b jurisdiction=ch from=2024-01-01\n"
    tail = "group g any a b c\nquorum g\n"
    strict, plain = policy(tail + facts + "# coldchain: jurisdictions 2\n"), policy(tail)
    for count in range(4):
        for there in itertools.combinations("abc", count):
            for time in (SIGNED_AT, seconds("2025-01-01T00:00:00+00:00")):
                if strict.evaluate(at(*there, time=time), NOW).satisfied:
                    assert plain.evaluate(at(*there, time=time), NOW).satisfied


# Rebuilders


R = {name: witness(number).key.key.raw.hex() for number, name in enumerate("xyz", 40)}


def rebuilders(*lines: str) -> Policy:
    return policy("quorum a\n" + "".join(f"# coldchain: {line}\n" for line in lines))


def test_rebuilders_are_named_with_their_keys_and_counted() -> None:
    lines = [f"rebuilder {name} {key}" for name, key in R.items()]
    for needed in (1, 2, 3):
        for order in itertools.permutations([*lines, f"rebuilders {needed}"]):
            read = rebuilders(*order)
            assert {name: key.raw.hex() for name, key in read.rebuilders.items()} == R
            assert read.rebuilds == needed
            assert parse_policy(read.encode()) == read
    assert set(rebuilders(f"rebuilder a {R['x']}", "rebuilders 1").rebuilders) == {"a"}, "witness a is somebody else"
    assert (policy("quorum a\n").rebuilders, policy("quorum a\n").rebuilds) == ({}, 0)


@pytest.mark.parametrize(
    "lines",
    [
        (f"rebuilder x {R['x']}",),
        ("rebuilders 1",),
        (f"rebuilder x {R['x']}", "rebuilders 2"),
        (f"rebuilder x {R['x']}", "rebuilders 0"),
        (f"rebuilder x {R['x']}", "rebuilders 01"),
        (f"rebuilder x {R['x']}", "rebuilders all"),
        (f"rebuilder x {R['x']}", "rebuilders 1", "rebuilders 1"),
        (f"rebuilder x {R['x']}", f"rebuilder x {R['y']}", "rebuilders 1"),
        (f"rebuilder x {R['x']}", f"rebuilder y {R['x']}", "rebuilders 1"),
        (f"rebuilder x {W['a'].key.key.raw.hex()}", "rebuilders 1"),
        (f"rebuilder x {LOG.key.key.raw.hex()}", "rebuilders 1"),
        (f"rebuilder x {R['x'].upper()}", "rebuilders 1"),
        (f"rebuilder x {R['x'][:-1]}", "rebuilders 1"),
        (f"rebuilder x {'00' * 32}", "rebuilders 1"),
        (f"rebuilder x {R['x']} https://x.example", "rebuilders 1"),
        (f"rebuilder {R['x']}", "rebuilders 1"),
        (f"Rebuilder x {R['x']}", "rebuilders 1"),
    ],
)
def test_a_mistake_about_rebuilders_is_no_policy(lines: tuple[str, ...]) -> None:
    with pytest.raises(MalformedError):
        rebuilders(*lines)


def test_there_is_a_bound_of_rebuilders() -> None:
    lines = [f"rebuilder r{number} {witness(100 + number).key.key.raw.hex()}" for number in range(65)]
    assert len(rebuilders(*lines[:64], "rebuilders 1").rebuilders) == 64
    with pytest.raises(MalformedError, match="one too many"):
        rebuilders(*lines, "rebuilders 1")


# Any bytes


def test_every_changed_bit_is_refused_or_read_as_what_it_says() -> None:
    tail = "group g 1 a b\nquorum g\n# coldchain: witness a jurisdiction=jp from=2026-01-01\n"
    data = ("".join(HEAD.splitlines(keepends=True)[:3]) + tail).encode()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with suppress(MalformedError):
            read = parse_policy(bytes(damaged))
            assert parse_policy(read.encode()) == read
            # no change lets another key in
            assert {key.key for key in [*read.log_keys, *read.witness_keys]} <= {
                LOG.key.key,
                W["a"].key.key,
                W["b"].key.key,
            }


WORDS = st.sampled_from(
    ["log", "witness", "group", "quorum", "none", "any", "all", "1", "2", "#", "coldchain:", "jurisdictions", "jurisdiction=jp",
     "rebuilder",
     "rebuilders", "ed" * 32, "from=2026-01-01", "until=2027-01-01", "a", "b", "g",
     LOG.vkey, ONE.vkey, W["a"].vkey, ML_DSA, "\t", "\r", "é"]
)  # fmt: skip


@given(
    st.one_of(
        st.binary(),
        st.lists(st.lists(WORDS, max_size=5)).map(lambda lines: "".join(" ".join(w) + "\n" for w in lines).encode()),
    )
)
def test_any_bytes_are_a_policy_or_refused(data: bytes) -> None:
    for start in (b"", HEAD.encode(), HEAD.encode() + b"quorum a\n"):
        with suppress(ColdchainError):
            read = parse_policy(start + data)
            assert parse_policy(read.encode()) == read
            read.evaluate(at("a", "b"), NOW)
