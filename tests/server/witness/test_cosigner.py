"""The rules: every status, every pair of sizes, forks at every point, two askers at once."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.keys import PublicKey
from coldchain.tlog.add_checkpoint import SIZE_TYPE, Question, parse_answer
from coldchain.tlog.checkpoint import Checkpoint, open_checkpoint
from coldchain.tlog.merkle import EMPTY_ROOT
from coldchain.tlog.note import SignedNote, parse_note
from coldchain.tlog.spellings import encode64
from coldchain.tlog.vkey import Kind, NoteKey
from coldchain_server.witness.cosigner import Cosigner, Reply
from coldchain_server.witness.home import WitnessHome
from coldchain_server.witness.memory import Head, Memory
from tests.client.tlog.logs import LOG, ONE, ORIGIN, SIGNED_AT, Signer, signed, vectors
from tests.server.witness.asking import LONG, ORIGIN_ID, ask, fork, make_witness, note, passphrase, proof

OTHER_LOG = Signer("log.example/other", Kind.ED25519, 7)
STRANGER = Signer(ORIGIN, Kind.ED25519, 8)  # another key under the log's name
STEPS = (1, 2, 3, 4, 7, 8, 9)


@pytest.fixture
def home(tmp_path: Path) -> WitnessHome:
    return make_witness(tmp_path / "witness")


def cosigner_of(home: WitnessHome, memory: Memory | None = None, now: int = SIGNED_AT) -> Cosigner:
    return Cosigner(memory or home.memory(), home.key, home.signer(passphrase), lambda: now)


@pytest.fixture
def memory(home: WitnessHome) -> Iterator[Memory]:
    memory = home.memory()
    yield memory
    memory.close()


@pytest.fixture
def cosigner(home: WitnessHome, memory: Memory) -> Cosigner:
    return cosigner_of(home, memory)


def short(reply: Reply) -> tuple[int, bytes]:
    return reply.status, reply.body


def cosigned(reply: Reply, sent: SignedNote, key: NoteKey) -> int:
    """The time in the one line of a 200."""
    assert reply.status == 200, reply
    assert reply.body.count(b"\n") == 1
    (time,) = parse_answer(reply.body, sent, [key]).values()
    return time


def test_the_vectors(tmp_path: Path) -> None:
    document = json.loads((vectors("witness") / "add-checkpoint.json").read_text())
    log = NoteKey(document["origin"], Kind.ED25519, PublicKey(bytes.fromhex(document["log_public_key_hex"])))
    home = make_witness(tmp_path / "witness", [log])
    memory = home.memory()
    cosigner = cosigner_of(home, memory)
    for request in document["requests"]:
        reply = cosigner.add_checkpoint(request["body"].encode())
        assert reply.status == request["status"], request["desc"]
        if reply.status == 409:
            assert reply.body.decode() == json.loads(request["assertion"].removeprefix("== "))
        if reply.status == 200:
            assert reply.body.startswith("— wit.example/fleet ".encode())
    memory.close()


def test_every_way_from_size_to_size(tmp_path: Path) -> None:
    """The log grows along every pair of sizes; what is cosigned is what was sent; what is shown is what was cosigned."""
    for old in (0, *STEPS):
        for new in (size for size in STEPS if size >= old):
            home = make_witness(tmp_path / f"{old}-{new}")
            memory = home.memory()
            cosigner = cosigner_of(home, memory)
            if old:
                cosigned(cosigner.add_checkpoint(ask(0, old)), note(size=old), home.key)
            assert cosigned(cosigner.add_checkpoint(ask(old, new)), note(size=new), home.key) == SIGNED_AT
            head = memory.head(ORIGIN)
            assert head is not None
            assert (head.size, head.root) == (new, LONG.root(new))
            shown = memory.shown(ORIGIN_ID)
            assert shown is not None
            opened = open_checkpoint(parse_note(shown), [LOG.key], [home.key])
            assert opened.checkpoint == LONG.checkpoint(new)
            assert opened.opened.signed == {LOG.key: None, home.key: SIGNED_AT}
            memory.close()


def test_no_fork_is_cosigned_wherever_it_begins_and_whatever_proof_it_brings(home: WitnessHome, memory: Memory) -> None:
    cosigner = cosigner_of(home, memory)
    held = 8
    cosigned(cosigner.add_checkpoint(ask(0, held)), note(size=held), home.key)
    refused = 0
    for at in range(held):
        for size in range(held, 18, 3):
            forked = fork(at, size)
            honest = proof(LONG, held, size)
            own = proof(forked, held, size)
            for hashes in {own, honest, (), own[:-1], (*own, bytes(32)), own[::-1]}:
                reply = cosigner.add_checkpoint(ask(held, size, forked, hashes=hashes))
                assert reply.status == 422, (at, size, len(hashes))
                refused += 1
            for old in range(held):
                assert short(cosigner.add_checkpoint(ask(old, size, forked))) == (409, b"8\n")
    assert refused > 80
    head = memory.head(ORIGIN)
    assert head is not None
    assert head.root == LONG.root(held)
    cosigned(cosigner.add_checkpoint(ask(held, 20)), note(size=20), home.key)


def test_any_other_size_is_told_the_size_that_is_remembered(cosigner: Cosigner, home: WitnessHome) -> None:
    for held in (0, *STEPS):
        if held:
            cosigned(
                cosigner.add_checkpoint(ask(STEPS[STEPS.index(held) - 1] if held > 1 else 0, held)),
                note(size=held),
                home.key,
            )
        for size in range(0, 20, 3):
            for old in (old for old in range(size + 1) if old != held):
                reply = cosigner.add_checkpoint(ask(old, size))
                assert short(reply) == (409, b"%d\n" % held)
                assert reply.content_type == SIZE_TYPE


def _body(old: str = "old 3", hashes: tuple[str, ...] = (), text: str | None = None, *signers: Signer) -> bytes:
    text = text or LONG.checkpoint(5).text
    lines = "".join(signer.sign(text).line for signer in signers or (LOG,))
    return ("\n".join([old, *hashes, "", text]) + "\n" + lines).encode()


HASHES = tuple(encode64(one) for one in proof(LONG, 3, 5))
HONEST = LONG.checkpoint(5).text

STATUSES: list[tuple[str, int, bytes]] = [
    ("nothing", 400, b""),
    ("no checkpoint", 400, b"old 3\n\n"),
    ("not a question", 400, b"\x00\xff" * 50),
    ("old with a leading zero", 400, _body("old 03", HASHES)),
    ("old 00", 400, _body("old 00", HASHES)),
    ("old negative", 400, _body("old -3", HASHES)),
    ("old in other digits", 400, _body("old ３", HASHES)),
    ("no old", 400, _body(HASHES[0], HASHES[1:])),
    ("old above the checkpoint", 400, _body("old 6", HASHES)),
    ("old too large to be one", 400, _body("old 9223372036854775808", HASHES)),
    ("64 hashes", 400, _body("old 3", HASHES[:1] * 64)),
    ("a hash of 31 bytes", 400, _body("old 3", (encode64(bytes(31)),))),
    ("a hash in another spelling", 400, _body("old 3", (HASHES[0][:-2] + "B=", *HASHES[1:]))),
    ("line breaks of another system", 400, _body("old 3", HASHES).replace(b"\n", b"\r\n")),
    ("a size with a leading zero", 400, _body("old 3", HASHES, HONEST.replace("\n5\n", "\n05\n"))),
    ("a root of 31 bytes", 400, _body("old 3", HASHES, f"{ORIGIN}\n5\n{encode64(bytes(31))}\n")),
    ("no signature", 400, HONEST.encode().join([b"old 3\n\n", b"\n"])),
    ("an unknown log", 404, _body("old 0", (), LONG.checkpoint(5).text.replace("test", "tess"))),
    ("an unknown log, signed by a known key", 404, _body("old 0", (), f"log.example/x\n5\n{encode64(bytes(32))}\n")),
    ("a followed log's text, signed by another log", 403, _body("old 3", HASHES, HONEST, OTHER_LOG)),
    ("a stranger under the log's name", 403, _body("old 3", HASHES, HONEST, STRANGER)),
    ("a cosignature only", 403, _body("old 3", HASHES, HONEST, ONE)),
    (
        "a signature of another text",
        403,
        _body("old 3", HASHES).replace(HONEST.encode(), LONG.checkpoint(6).text.encode()),
    ),
    (
        "a good one and a bad one of the same key",
        403,
        _body("old 3", HASHES, HONEST, LOG) + LOG.sign("x\n").line.encode(),
    ),
    ("stale", 409, _body("old 2", HASHES)),
    ("stale, first contact", 409, _body("old 0", HASHES)),
    ("a stale empty log with a root", 409, _body("old 0", (), f"{ORIGIN}\n0\n{encode64(bytes(32))}\n")),
    ("no proof", 422, _body("old 3", ())),
    ("half a proof", 422, _body("old 3", HASHES[:1])),
    ("63 hashes", 422, _body("old 3", HASHES[:1] * 63)),
    ("another root for the size", 422, _body("old 3", (), f"{ORIGIN}\n3\n{encode64(bytes(32))}\n")),
    ("the same size with a proof", 422, _body("old 3", HASHES, LONG.checkpoint(3).text)),
    ("all in order", 200, _body("old 3", HASHES)),
    ("the same size and root", 200, _body("old 3", (), LONG.checkpoint(3).text)),
    ("extension lines", 200, _body("old 3", HASHES, HONEST + "more\n")),
    ("a stranger's signature beside the good one", 200, _body("old 3", HASHES, HONEST, STRANGER, ONE, LOG)),
]
WHEN_EMPTY: list[tuple[str, int, bytes]] = [
    ("first contact", 200, _body("old 0", ())),
    ("an empty log", 200, _body("old 0", (), f"{ORIGIN}\n0\n{encode64(EMPTY_ROOT)}\n")),
    ("first contact with a proof", 422, _body("old 0", HASHES)),
    ("an empty log with a root", 422, _body("old 0", (), f"{ORIGIN}\n0\n{encode64(bytes(32))}\n")),
    ("an empty log with a root, unsigned", 403, _body("old 0", (), f"{ORIGIN}\n0\n{encode64(bytes(32))}\n", STRANGER)),
    ("a size nobody has", 409, _body("old 3", HASHES)),
]


@pytest.mark.parametrize(
    ("held", "case"), [(3, case) for case in STATUSES] + [(0, case) for case in WHEN_EMPTY], ids=str
)
def test_every_row_of_the_table(held: int, case: tuple[str, int, bytes], cosigner: Cosigner, memory: Memory) -> None:
    _, status, body = case
    if held:
        cosigner.add_checkpoint(ask(0, held))
    before = memory.head(ORIGIN)
    reply = cosigner.add_checkpoint(body)
    assert reply.status == status, reply
    if status == 409:
        assert (reply.body, reply.content_type) == (b"%d\n" % held, SIZE_TYPE)
    if status != 200:
        assert memory.head(ORIGIN) == before


def test_the_same_size_is_cosigned_again_with_the_time_it_is(home: WitnessHome, memory: Memory) -> None:
    for now in (SIGNED_AT, SIGNED_AT + 60, SIGNED_AT - 60):
        held = 5 if memory.head(ORIGIN) != Head(ORIGIN, 0, EMPTY_ROOT) else 0
        assert cosigned(cosigner_of(home, memory, now).add_checkpoint(ask(held, 5)), note(size=5), home.key) == now


@pytest.mark.parametrize("now", [0, -1, -(2**40)])
def test_a_clock_before_1970_cosigns_nothing_and_remembers_nothing(home: WitnessHome, memory: Memory, now: int) -> None:
    before = memory.head(ORIGIN)
    reply = cosigner_of(home, memory, now).add_checkpoint(ask(0, 5))
    assert (reply.status, reply.word) == (503, "clock")
    assert memory.head(ORIGIN) == before
    assert cosigned(cosigner_of(home, memory).add_checkpoint(ask(0, 5)), note(size=5), home.key) == SIGNED_AT


def test_a_question_that_is_sent_again_by_anybody_changes_nothing_but_the_time(
    home: WitnessHome, memory: Memory
) -> None:
    """Checkpoints are public, so whoever likes may send them; every old one is told the size, whatever it brings."""
    for held, size in ((0, 3), (3, 5), (5, 9)):
        cosigned(cosigner_of(home, memory).add_checkpoint(ask(held, size)), note(size=size), home.key)
    head = memory.head(ORIGIN)
    assert head is not None
    for held, size in ((0, 3), (3, 5), (5, 9), (0, 9), (3, 3), (5, 5)):
        assert short(cosigner_of(home, memory).add_checkpoint(ask(held, size))) == (409, b"9\n")
    for forked in (3, 5, 9):
        assert cosigner_of(home, memory).add_checkpoint(ask(9, forked, fork(0, 9))).status in (400, 422)
    assert memory.head(ORIGIN) == head
    assert cosigned(cosigner_of(home, memory, SIGNED_AT + 9).add_checkpoint(ask(9, 9)), note(size=9), home.key)


def test_logs_do_not_touch_each_other(home: WitnessHome, memory: Memory) -> None:
    memory.follow(OTHER_LOG.name, OTHER_LOG.vkey)
    cosigner = cosigner_of(home, memory)
    cosigned(cosigner.add_checkpoint(ask(0, 5)), note(size=5), home.key)
    other = Checkpoint(OTHER_LOG.name, 9, bytes(32))
    reply = cosigner.add_checkpoint(Question(0, (), signed(other, OTHER_LOG)).encode())
    cosigned(reply, signed(other, OTHER_LOG), home.key)
    crossed = Checkpoint(OTHER_LOG.name, 9, bytes(31) + b"\x01")
    assert cosigner.add_checkpoint(Question(9, (), signed(crossed, LOG)).encode()).status == 403
    assert short(cosigner.add_checkpoint(ask(0, 6))) == (409, b"5\n")


def test_only_the_logs_and_its_own_signature_are_shown(cosigner: Cosigner, home: WitnessHome, memory: Memory) -> None:
    """Whatever else stood under the checkpoint: anybody could have added it, and it would be shown to everybody."""
    beside = Signer("spam.example/buy", Kind.ED25519, 9)
    cosigned(cosigner.add_checkpoint(ask(0, 5, signers=[beside, STRANGER, LOG, ONE])), note(size=5), home.key)
    shown = memory.shown(ORIGIN_ID)
    assert shown is not None
    assert [(one.name, one.key_id) for one in parse_note(shown).signatures] == [
        (key.name, key.key_id) for key in (LOG.key, home.key)
    ]


def test_a_log_may_have_two_keys_and_lose_one(home: WitnessHome, memory: Memory) -> None:
    memory.follow(STRANGER.name, STRANGER.vkey)
    cosigner = cosigner_of(home, memory)
    cosigned(cosigner.add_checkpoint(ask(0, 3)), note(size=3), home.key)
    cosigned(cosigner.add_checkpoint(ask(3, 4, signers=[STRANGER])), note(size=4), home.key)
    cosigned(cosigner.add_checkpoint(ask(4, 5, signers=[STRANGER, LOG])), note(size=5), home.key)
    assert memory.unfollow(LOG.name, LOG.vkey)
    assert cosigner.add_checkpoint(ask(5, 6)).status == 403
    cosigned(cosigner.add_checkpoint(ask(5, 6, signers=[STRANGER])), note(size=6), home.key)
    memory.unfollow(STRANGER.name, STRANGER.vkey)
    assert cosigner.add_checkpoint(ask(6, 7, signers=[STRANGER])).status == 404
    memory.follow(LOG.name, LOG.vkey)
    assert short(cosigner.add_checkpoint(ask(0, 7))) == (409, b"6\n"), "what was cosigned is not forgotten with the key"


def test_what_was_cosigned_survives_the_process(home: WitnessHome) -> None:
    for old, new in ((0, 3), (3, 3), (3, 9)):
        memory = home.memory()
        cosigned(cosigner_of(home, memory).add_checkpoint(ask(old, new)), note(size=new), home.key)
        memory.close()
    memory = home.memory()
    cosigner = cosigner_of(home, memory)
    assert cosigner.add_checkpoint(ask(9, 12, fork(4, 12))).status == 422
    assert short(cosigner.add_checkpoint(ask(3, 12))) == (409, b"9\n")
    memory.close()


def test_a_fork_of_one_size_is_told_with_both_checkpoints(
    cosigner: Cosigner, home: WitnessHome, caplog: pytest.LogCaptureFixture
) -> None:
    forked = fork(3, 5)
    cosigner.add_checkpoint(ask(0, 5))
    with caplog.at_level(logging.ERROR, "coldchain.witness"):
        assert cosigner.add_checkpoint(ask(5, 5, forked)).status == 422
    (record,) = caplog.records
    proofs = [parse_note(record.__dict__[name].encode()) for name in ("cosigned", "refused")]
    checkpoints = [open_checkpoint(one, [LOG.key]).checkpoint for one in proofs]
    assert checkpoints == [LONG.checkpoint(5), forked.checkpoint()]


def test_a_proof_that_fails_is_no_proof_of_a_fork(cosigner: Cosigner, caplog: pytest.LogCaptureFixture) -> None:
    cosigner.add_checkpoint(ask(0, 5))
    with caplog.at_level(logging.ERROR, "coldchain.witness"):
        cosigner.add_checkpoint(ask(5, 9, hashes=()))
    assert not caplog.records


class StalledMemory(Memory):
    """Both askers have read what is remembered before either may go on."""

    barrier: threading.Barrier

    @classmethod
    def of(cls, home: WitnessHome, barrier: threading.Barrier) -> StalledMemory:
        opened = home.memory()
        stalled = cls(opened._path, opened._connection)
        stalled.barrier = barrier
        return stalled

    def advance(self, old: Head, new: Head) -> bool:
        self.barrier.wait(20)
        return super().advance(old, new)


def at_once(home: WitnessHome, *bodies: bytes) -> list[Reply]:
    """Asks all of them at a time, each through a connection of its own, as separate processes would."""
    barrier = threading.Barrier(len(bodies))
    memories = [StalledMemory.of(home, barrier) for _ in bodies]
    cosigners = [cosigner_of(home, one) for one in memories]
    with ThreadPoolExecutor(len(bodies)) as threads:
        replies = list(threads.map(lambda pair: pair[0].add_checkpoint(pair[1]), zip(cosigners, bodies, strict=True)))
    for one in memories:
        one.close()
    return replies


@pytest.mark.parametrize("held", [0, 3])
def test_of_two_branches_at_once_one_is_cosigned(home: WitnessHome, memory: Memory, held: int) -> None:
    """Both continue what is remembered, and neither the other."""
    if held:
        cosigner_of(home, memory).add_checkpoint(ask(0, held))
    forked = fork(held, 9)
    replies = at_once(home, ask(held, 9), ask(held, 9, forked), ask(held, 7), ask(held, 8, forked))
    assert sorted(reply.status for reply in replies) == [200, 409, 409, 409]
    won = [reply.word for reply in replies].index("cosigned")
    head = memory.head(ORIGIN)
    assert head is not None
    assert (head.size, head.root) == [(9, LONG.root(9)), (9, forked.root()), (7, LONG.root(7)), (8, forked.root(8))][
        won
    ]
    assert {reply.body for reply in replies if reply.status == 409} == {b"%d\n" % head.size}


def test_a_fresh_time_does_not_take_back_what_came_at_once(home: WitnessHome, memory: Memory) -> None:
    cosigner_of(home, memory).add_checkpoint(ask(0, 3))
    grown, fresh = at_once(home, ask(3, 9), ask(3, 3))
    assert grown.status == 200
    assert short(fresh) == (409, b"9\n") or fresh.status == 200
    head = memory.head(ORIGIN)
    assert head is not None
    assert (head.size, head.root) == (9, LONG.root(9))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whatever_bytes_come_the_head_only_follows_the_log(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    home = make_witness(tmp_path_factory.mktemp("w") / "witness")
    memory = home.memory()
    cosigner = cosigner_of(home, memory)
    cosigner.add_checkpoint(ask(0, 3))
    body = bytearray(ask(3, 7))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] ^= 1 << data.draw(st.integers(0, 7))
    reply = cosigner.add_checkpoint(bytes(body))
    head = memory.head(ORIGIN)
    assert head is not None
    assert (head.size, head.root) == ((7, LONG.root(7)) if reply.status == 200 else (3, LONG.root(3)))
    memory.close()
