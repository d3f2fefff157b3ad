"""What an endpoint remembers: read back as written; anything else counts as nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain import canonical
from coldchain.install.directory import ClientDirectory
from coldchain.install.engine_memory import MOST_REFUSED as MOST_REFUSED_SETS
from coldchain.install.engine_memory import EngineMemory, Refusal
from coldchain.install.state import MOST_BYTES, MOST_REFUSED, EntityTag, Packless, State, parse_state
from coldchain.verify import BUCKETS

DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
TIMES = st.integers(0, 7_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
PLAIN = st.text(st.characters(min_codepoint=0x20, exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=100)
NAMES = st.builds("{}-{:016x}".format, st.integers(1, 10**15), st.integers(0, 2**64 - 1))
WORDS = st.text(st.characters(exclude_categories=["Cs"])).map(str) | st.just("a\nb\x1b[1m\udcff" * 100)
MEMORIES = st.builds(
    lambda proved, at, refused, problem: reduce(
        lambda memory, one: memory.refuse(*one), refused, EngineMemory(proved, at)
    ).trouble(problem),
    st.just("") | NAMES | NAMES.map("{}.2".format),
    st.none() | TIMES,
    st.lists(st.tuples(NAMES, WORDS), max_size=MOST_REFUSED),
    WORDS,
)
STATES = st.builds(
    State,
    bucket=st.none() | st.tuples(st.integers(1, 2**53 - 1), st.integers(0, BUCKETS - 1)),
    etag=st.none() | st.builds(EntityTag, DIGESTS, PLAIN, PLAIN),
    last_full=st.none() | TIMES,
    last_success=st.none() | TIMES,
    good_until=st.none() | TIMES,
    refused_deltas=st.lists(DIGESTS, max_size=MOST_REFUSED).map(tuple),
    packless=st.none() | st.builds(Packless, PLAIN, TIMES),
    engines=st.dictionaries(st.sampled_from(["clamav", "yara", "mail"]), MEMORIES),
)
EXAMPLE = State(
    (42, 7301),
    EntityTag("ab" * 32, "https://a.example", '"5c1f"'),
    datetime(2026, 6, 1, 12, tzinfo=UTC),
    datetime(2026, 6, 1, 15, tzinfo=UTC),
    datetime(2026, 6, 2, 9, tzinfo=UTC),
    ("cd" * 32,),
    {
        "clamav": EngineMemory(
            "41-5c1f0a9e33b07d12",
            datetime(2026, 6, 1, 9, tzinfo=UTC),
            (Refusal("42-9e33b07d125c1f0a", "999 of 1,000 signatures were loaded"),),
        )
    },
)


@given(STATES)
def test_a_state_is_read_back(state: State) -> None:
    assert parse_state(state.encode()) == state
    assert len(state.encode()) <= MOST_BYTES


def test_the_worked_example() -> None:
    assert EXAMPLE.encode() == (
        b'{"bucket":{"number":7301,"release":42},"engines":{"clamav":{"problem":"","proved":"41-5c1f0a9e33b07d12",'
        b'"proved_at":"2026-06-01T09:00:00Z","refused":[{"set":"42-9e33b07d125c1f0a","why":"999 of 1,000 signatures were '
        b'loaded"}]}},"etag":{"sha256":"' + b"ab" * 32 + b'","url":"https://a.example",'
        b'"value":"\\"5c1f\\""},"format":"coldchain-state-1","good_until":"2026-06-02T09:00:00Z","last_full":"2026-06-01T12:00:00Z",'
        b'"last_success":"2026-06-01T15:00:00Z","refused_deltas":["' + b"cd" * 32 + b'"]}'
    )


def test_only_the_newest_refused_deltas_are_kept() -> None:
    many = tuple(f"{number:064x}" for number in range(MOST_REFUSED + 5))
    assert parse_state(State(refused_deltas=many).encode()).refused_deltas == many[5:]


def test_only_the_newest_refusals_are_kept_each_set_once() -> None:
    memory = EngineMemory()
    for number in range(1, MOST_REFUSED_SETS + 4):
        memory = memory.refuse(f"{number}-{'0' * 16}", "why").refuse(f"{number}-{'0' * 16}.2", "again")
    assert [one.release for one in memory.refused] == list(range(4, MOST_REFUSED_SETS + 4))
    assert {one.why for one in memory.refused} == {"again"}
    assert memory.refusal(f"9-{'0' * 16}.7") is not None
    assert memory.refusal(f"9-{'1' * 16}") is None


@given(st.binary(max_size=200))
def test_rubbish_counts_as_nothing(data: bytes) -> None:
    assert parse_state(data) == State()


def test_every_change_of_a_byte_is_noticed_or_means_what_it_says() -> None:
    data = EXAMPLE.encode()
    for at in range(len(data)):
        for bit in (1, 128):
            changed = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            found = parse_state(changed)
            assert found == State() or found.encode() == changed
        assert parse_state(data[:at]) == State()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "coldchain-state-2"),
        ("bucket", {"release": 0, "number": 1}),
        ("bucket", {"release": 1, "number": BUCKETS}),
        ("bucket", {"release": 1, "number": 1, "x": 1}),
        ("bucket", None),
        ("etag", {"sha256": "AB" * 32, "url": "x", "value": "x"}),
        ("etag", {"sha256": "ab" * 32, "url": "x", "value": "x" * 129}),
        ("packless", {"url": "https://a.example"}),
        ("packless", {"since": "now", "url": "https://a.example"}),
        ("packless", {"since": "2026-06-01T12:00:00Z", "url": "https://a.example", "x": 1}),
        ("last_full", "2026-06-01 12:00:00"),
        ("last_full", "2026-13-01T12:00:00Z"),
        ("last_success", 1),
        ("refused_deltas", ["x"]),
        ("refused_deltas", [1]),
        ("refused_deltas", ["ab" * 32] * (MOST_REFUSED + 1)),
        ("engines", {"clamav": {}}),
        ("engines", {"clamav": {"problem": "", "proved": "../41", "refused": []}}),
        ("engines", {"clamav": {"problem": "", "proved": "", "refused": [{"set": "x", "why": ""}]}}),
        ("engines", {"clamav": {"problem": "x" * 301, "proved": "", "refused": []}}),
        ("engines", {"clamav": {"problem": "", "proved": "", "refused": [], "more": 1}}),
        ("engines", {"clamav": {"problem": "", "proved": "", "proved_at": "now", "refused": []}}),
        ("more", 1),
    ],
)
def test_what_this_program_would_not_write_counts_as_nothing(name: str, value: canonical.JSON) -> None:
    document = canonical.read_canonical(EXAMPLE.encode(), "x")
    document[name] = value
    assert parse_state(canonical.encode(document)) == State()


def test_the_file_is_written_only_when_it_says_something_new(publisher_free_directory: ClientDirectory) -> None:
    directory = publisher_free_directory
    assert directory.state() == State()
    directory.write_state(EXAMPLE)
    first = (directory.path / "state.json").stat()
    directory.write_state(EXAMPLE)
    assert (directory.path / "state.json").stat().st_ino == first.st_ino
    directory.write_state(replace(EXAMPLE, bucket=None))
    assert directory.state() == replace(EXAMPLE, bucket=None)
    (directory.path / "state.json").write_bytes(b"x" * (MOST_BYTES + 1))
    assert directory.state() == State()
