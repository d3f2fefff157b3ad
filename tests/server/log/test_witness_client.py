"""Asking witnesses: honest ones over real sockets, and one that answers every odd thing seen or thought of."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coldchain.errors import EvidenceError, InternalError, SignatureError, StateError
from coldchain.tlog.add_checkpoint import parse_question
from coldchain.tlog.checkpoint import Checkpoint, open_checkpoint
from coldchain.tlog.merkle import EMPTY_ROOT, prove_consistency
from coldchain.tlog.note import SignedNote
from coldchain.tlog.policy import Policy, parse_policy
from coldchain.tlog.vkey import Kind, NoteKey
from coldchain_server.log import witness_client
from coldchain_server.log.witness_client import Bounds, Cosigned, Held, held
from coldchain_server.witness.home import WitnessHome
from tests.client.tlog.logs import LOG, SIGNED_AT, MemoryLog, Signer, signed, witness
from tests.server.witness.asking import LONG, ORIGIN_ID, fork, make_witness, note, proof, serving

NOW = datetime.fromtimestamp(SIGNED_AT, UTC)
QUICK = Bounds(connect_seconds=5.0, seconds=0.5, answer_bytes=4096)
PATIENT = Bounds(seconds=30.0)
SIZE = 20
ONE = witness(1)
STRANGER = Signer("wit.example/stranger", Kind.COSIGNATURE, 77)
SAME_NAME = Signer(ONE.name, Kind.COSIGNATURE, 78)

Page = Callable[[bytes], Awaitable[bytes]]


def http(status: int, body: bytes = b"", *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass
class OddWitness:
    """Answers each request with the next of its bytes, the last again and again; keeps what it was asked."""

    answers: Sequence[bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]]
    port: int = 0
    asked: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length")
                    ),
                    0,
                )
                self.heads.append(head)
                self.asked.append(await reader.readexactly(length))
                answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                else:
                    await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def odd(*answers: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[OddWitness]:
    found = OddWitness(answers)
    server = await asyncio.start_server(found.talk, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


def policy(witnesses: Mapping[str, tuple[str, str]], quorum: str = "all", log: Signer = LOG) -> Policy:
    lines = [f"log {log.vkey}"]
    lines += [f"witness {name} {vkey} {url}" for name, (vkey, url) in witnesses.items()]
    lines.append(f"group q {quorum} {' '.join(witnesses)}")
    return parse_policy("\n".join([*lines, "quorum q", ""]).encode())


async def collect(
    sent: SignedNote,
    rules: Policy,
    prove: Callable[[int], Sequence[bytes]],
    sizes: Mapping[str, int],
    now: datetime,
    bounds: Bounds = witness_client.BOUNDS,
) -> Cosigned:
    """With proofs that are at hand."""

    async def asked(old: int) -> Sequence[bytes]:
        return prove(old)

    return await witness_client.collect(sent, rules, asked, sizes, now, bounds=bounds)


async def check_not_behind(rules: Policy, log: NoteKey, size: int, root: Callable[[int], bytes]) -> dict[str, Held]:
    async def asked(at: int) -> bytes:
        return root(at)

    return await witness_client.check_not_behind(rules, log, size, asked)


def prove(old: int) -> tuple[bytes, ...]:
    return proof(LONG, old, SIZE)


async def ask(
    rules: Policy, sizes: Mapping[str, int] | None = None, bounds: Bounds = PATIENT, sent: SignedNote | None = None
) -> Cosigned:
    return await collect(sent or note(size=SIZE), rules, prove, sizes or {}, NOW, bounds=bounds)


async def ask_odd(
    *answers: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]],
    size: int | None = None,
    bounds: Bounds = PATIENT,
) -> tuple[OddWitness, Cosigned]:
    async with odd(*answers) as one:
        found = await ask(policy({"one": (ONE.vkey, one.url)}), {} if size is None else {"one": size}, bounds)
    return one, found


TEXT = note(size=SIZE).text
GOOD = ONE.sign(TEXT).line.encode()


# honest witnesses


async def test_three_witnesses_cosign_what_grows(tmp_path: Path) -> None:
    """Real services; sizes are remembered from release to release; the note verifies by the policy."""
    homes = {"only": make_witness(tmp_path / "w")}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(serving(homes["only"]))
        rules = policy({"only": (homes["only"].key.vkey, f"http://127.0.0.1:{client.port}/")})
        sizes: dict[str, int] = {}
        for size in (3, 3, 7, SIZE):
            asked: list[int] = []

            def prover(old: int, size: int = size, asked: list[int] = asked) -> Sequence[bytes]:
                asked.append(old)
                return proof(LONG, old, size)

            before = dict(sizes)
            cosigned = await collect(note(size=size), rules, prover, sizes, NOW)
            assert asked == ([] if before.get("only", 0) in (0, size) else [before["only"]])
            sizes = cosigned.sizes
            assert sizes == {"only": size}
            assert cosigned.require() == cosigned.note
            opened = open_checkpoint(cosigned.note, [LOG.key], [homes["only"].key])
            assert opened.checkpoint == LONG.checkpoint(size)
            assert opened.opened.signed[homes["only"].key] == SIGNED_AT


async def test_forgotten_and_mistaken_sizes_cost_one_more_request(tmp_path: Path) -> None:
    home = make_witness(tmp_path / "w")
    async with serving(home) as client:
        rules = policy({"only": (home.key.vkey, f"http://127.0.0.1:{client.port}")})
        (await collect(note(size=7), rules, lambda old: proof(LONG, old, 7), {}, NOW)).require()
        for remembered in (None, 0, 3, 12, SIZE, 10_000):
            cosigned = await ask(rules, {} if remembered is None else {"only": remembered})
            assert cosigned.sizes == {"only": SIZE}, remembered
            cosigned.require()


async def test_a_fork_is_not_cosigned_and_the_message_says_by_whom(tmp_path: Path) -> None:
    home = make_witness(tmp_path / "w")
    forked = fork(5, SIZE)
    async with serving(home) as client:
        rules = policy({"only": (home.key.vkey, f"http://127.0.0.1:{client.port}")})
        (await collect(note(size=7), rules, prove, {}, NOW)).require()
        for size in (7, 8, SIZE):

            def own_proof(old: int, size: int = size) -> Sequence[bytes]:
                return proof(forked, old, size)

            cosigned = await collect(note(forked, size), rules, own_proof, {}, NOW)
            assert cosigned.note == note(forked, size)
            assert cosigned.sizes == {"only": 7}
            with pytest.raises(EvidenceError, match=r"only: it answers 422: it refuses the proof"):
                cosigned.require()


async def test_a_quorum_is_enough_and_those_who_are_missing_are_named() -> None:
    """Every subset of three that answers, against every quorum of them."""
    witnesses = [witness(number) for number in (1, 2, 3)]
    for mask in range(8):
        async with AsyncExitStack() as stack:
            urls = {}
            for number, one in enumerate(witnesses):
                answer = http(200, one.sign(TEXT).line.encode()) if mask >> number & 1 else http(404, b"no such log\n")
                urls[f"w{number}"] = (one.vkey, (await stack.enter_async_context(odd(answer))).url)
            for least in (1, 2, 3):
                cosigned = await ask(policy(urls, str(least)))
                names = {name for name, answer in cosigned.answers.items() if answer.signature}
                assert len(names) == mask.bit_count()
                assert list(cosigned.answers) == ["w0", "w1", "w2"]
                assert cosigned.verdict.satisfied == (len(names) >= least)
                assert len(cosigned.note.signatures) == 1 + len(names)
                if len(names) < least:
                    with pytest.raises(EvidenceError, match="no quorum") as refusal:
                        cosigned.require()
                    for name in urls:
                        assert (f"{name}: it answers 404" in refusal.value.what) == (name not in names)
                else:
                    cosigned.require()


async def test_cosignatures_that_are_there_stay_and_count() -> None:
    two = witness(2)
    async with odd(http(200, GOOD)) as one, odd(http(500)) as broken:
        rules = policy({"one": (ONE.vkey, one.url), "two": (two.vkey, broken.url)})
        earlier = signed(LONG.checkpoint(SIZE), LOG, ONE, two, time=SIGNED_AT - 100)
        cosigned = await ask(rules, sent=earlier)
        cosigned.require()
    assert cosigned.verdict.counted == {"one": SIGNED_AT, "two": SIGNED_AT - 100}
    assert len(cosigned.note.signatures) == 3
    assert cosigned.problems == {}


async def test_a_note_that_is_not_of_the_policys_log_is_not_sent() -> None:
    async with odd(http(200, GOOD)) as one:
        rules = policy({"one": (ONE.vkey, one.url)})
        other = Checkpoint("log.example/other", SIZE, bytes(32))
        with pytest.raises(EvidenceError):
            await ask(rules, sent=signed(other, LOG))
        with pytest.raises(SignatureError):
            await ask(rules, sent=signed(LONG.checkpoint(SIZE), STRANGER))
        with pytest.raises(InternalError):
            await collect(note(size=SIZE), rules, prove, {}, datetime(2026, 1, 1))  # noqa: DTZ001
    assert one.asked == []


async def test_what_goes_out(tmp_path: Path) -> None:
    one, _ = await ask_odd(http(200, GOOD), size=7)
    (head,) = one.heads
    assert head.startswith(b"POST /add-checkpoint HTTP/1.1\r\n")
    names = {line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:] if line}
    assert names == {b"host", b"content-length", b"content-type"}
    question = parse_question(one.asked[0])
    assert (question.old, question.proof, question.note) == (7, prove(7), note(size=SIZE))


# odd witnesses


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drip_header(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        await writer.drain()


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def break_off(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + GOOD)
    await writer.drain()
    writer.transport.close()


BROKEN_LINE = GOOD[:-10] + b"AAAAAAAA=\n"
OTHER_TEXT = LONG.checkpoint(SIZE - 1).text
ODD: dict[str, tuple[bytes | Callable[[asyncio.StreamWriter], Awaitable[None]], str]] = {
    "malformed": (
        http(400, b"malformed request\n"),
        r"answers 400: it finds the request malformed \(malformed request\)",
    ),
    "signature": (http(403, b"invalid signature\n"), "answers 403: it does not accept the log's signature"),
    "unknown": (http(404, b"unknown log"), "answers 404: it does not follow this log"),
    "fork without a size": (http(409), "answers 409: it refuses and names no size"),
    "conflict in words": (http(409, b"root mismatch\n"), r"answers 409: .*\(root mismatch\)"),
    "conflict in hexadecimal": (http(409, b"0x7\n"), "answers 409: it refuses and names no size"),
    "conflict with a leading zero": (http(409, b"07\n"), "answers 409: it refuses and names no size"),
    "conflict with a sign": (http(409, b"-7\n"), "answers 409: it refuses and names no size"),
    "conflict in other digits": (http(409, "７\n".encode()), "answers 409: it refuses and names no size"),
    "conflict too large": (http(409, b"9" * 19 + b"\n"), "answers 409: it refuses and names no size"),
    "conflict, a long one": (http(409, b"7" * 4000), "answers 409: it refuses and names no size"),
    "conflict, larger": (http(409, b"21\n"), "holds 21 entries, and this checkpoint has 20: is this log an old copy"),
    "conflict, again and again": (http(409, b"7\n"), "answers 409 again"),
    "proof": (http(422, b"bad proof\n"), "answers 422: it refuses the proof"),
    "busy": (http(429), "answers 429: it is too busy"),
    "unavailable": (http(503, b"", "Retry-After: 99999999"), "answers 503: it is too busy"),
    "failed": (http(500, b"invalid signature"), r"answers 500: it failed \(invalid signature\)"),
    "a status nobody knows": (http(299, GOOD), "answers 299: no answer that a witness should give"),
    "no content": (b"HTTP/1.1 204 X\r\n\r\n", "answers 204: no answer that a witness should give"),
    "terminal codes": (http(500, b"\x1b[2J\x07\xff\x00 gone\n"), r"answers 500: it failed \(\[2J gone\)"),
    "empty": (http(200), "answers 200 without a cosignature"),
    "words": (http(200, b"OK\n"), "without its cosignature on this checkpoint"),
    "no line break at the end": (http(200, GOOD[:-1]), "without its cosignature on this checkpoint"),
    "a blank line": (http(200, b"\n" + GOOD), "without its cosignature on this checkpoint"),
    "other line breaks": (http(200, GOOD.replace(b"\n", b"\r\n")), "without its cosignature on this checkpoint"),
    "the whole note": (
        http(
            200,
            note(
                size=SIZE,
            ).encode(),
        ),
        "without its cosignature on this checkpoint",
    ),
    "strangers only": (http(200, STRANGER.sign(TEXT).line.encode()), "no signature of a known key"),
    "its name, another key": (http(200, SAME_NAME.sign(TEXT).line.encode()), "no signature of a known key"),
    "the log's signature": (http(200, LOG.sign(TEXT).line.encode()), "no signature of a known key"),
    "another checkpoint": (http(200, ONE.sign(OTHER_TEXT).line.encode()), "signature of 'wit.example/1' is bad"),
    "a good and a bad one": (
        http(200, GOOD + ONE.sign(OTHER_TEXT).line.encode()),
        "signature of 'wit.example/1' is bad",
    ),
    "not base64": (http(200, GOOD.replace(b"=", b"*")), "without its cosignature on this checkpoint"),
    "101 lines": (http(200, STRANGER.sign(TEXT).line.encode() * 100 + GOOD), "longer than|more than 100 signatures"),
    "not UTF-8": (http(200, b"\xff\xfe" + GOOD), "not UTF-8"),
    "moved": (http(301, b"", "Location: http://127.0.0.1:9/add-checkpoint"), "answers 301, a redirect"),
    "moved, method kept": (http(307, b"", "Location: /elsewhere"), "answers 307, a redirect"),
    "see other": (http(303, GOOD, "Location: /"), "answers 303, a redirect"),
    "compressed": (http(200, gzip.compress(GOOD), "Content-Encoding: gzip"), "comes encoded"),
    "too long": (http(200, GOOD + b"x" * 8192), "longer than the allowed 4096 bytes"),
    "too long a refusal": (http(500, b"x" * 8192), "longer than the allowed 4096 bytes"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9\r\n", "not HTTP|broke off|cannot be reached"),
    "a long header": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", "not HTTP"),
    "many fields": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n", "not HTTP"),
    "dripping": (drip, "no whole answer within 0.5 seconds"),
    "dripping header": (drip_header, "no whole answer within 0.5 seconds|not HTTP"),
    "endless": (endless, "longer than the allowed 4096 bytes"),
    "silent": (silent, "no whole answer within 0.5 seconds"),
    "hangs up": (hang_up, "cannot be reached"),
    "breaks off": (break_off, "broke off in the middle"),
}


async def test_every_odd_answer_is_a_refusal_in_words_and_hurts_nobody_else() -> None:
    """Each beside a good witness that is asked in the same call."""
    good = witness(200)
    for name, (answer, words) in ODD.items():
        bounds = Bounds(seconds=30.0, answer_bytes=4096) if isinstance(answer, bytes) else QUICK
        async with odd(answer) as one, odd(http(200, good.sign(TEXT).line.encode())) as fine:
            rules = policy({"one": (ONE.vkey, one.url), "good": (good.vkey, fine.url)}, "any")
            cosigned = await ask(rules, bounds=bounds)
        found = cosigned.answers["one"]
        assert found.signature is None, name
        assert re.search(words, found.problem), (name, found)
        assert found.problem.isprintable()
        assert cosigned.verdict.counted == {"good": SIGNED_AT}
        cosigned.require()


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        STRANGER.sign(TEXT).line.encode() + GOOD,
        GOOD + SAME_NAME.sign(TEXT).line.encode(),
        GOOD + GOOD,
        GOOD + b"\xe2\x80\x94 wit.example/1 AAAAAAAAAAAA\n",  # another kind of key under the same name
    ],
)
async def test_its_own_good_line_counts_whatever_stands_beside(body: bytes) -> None:
    _, cosigned = await ask_odd(http(200, body))
    assert cosigned.answers["one"].signature == ONE.sign(TEXT)
    assert cosigned.answers["one"].time == SIGNED_AT
    assert cosigned.note.signatures == (LOG.sign(TEXT), ONE.sign(TEXT))


@pytest.mark.parametrize("body", [b"7\n", b"7"])
async def test_a_size_leads_to_one_new_proof(body: bytes) -> None:
    one, cosigned = await ask_odd(http(409, body, "Content-Type: text/html"), http(200, GOOD), size=3)
    questions = [parse_question(body) for body in one.asked]
    assert [(question.old, question.proof) for question in questions] == [(3, prove(3)), (7, prove(7))]
    assert cosigned.sizes == {"one": SIZE}
    cosigned.require()


@pytest.mark.parametrize(("size", "old"), [(0, 0), (SIZE, SIZE)])
async def test_no_proof_is_sent_where_none_belongs(size: int, old: int) -> None:
    """Some witnesses refuse hashes at old 0, others take any."""
    one, _ = await ask_odd(http(409, b"%d\n" % size), http(200, GOOD), size=7)
    question = parse_question(one.asked[1])
    assert (question.old, question.proof) == (old, ())


async def test_a_cosignature_of_another_time_is_left_out() -> None:
    """An hour matters to nobody. What is a day ahead would count here and be refused by every endpoint with a slower clock."""
    hour = 3600
    for off in (0, -hour, hour, -6 * hour, 6 * hour, -6 * hour - 1, 6 * hour + 1, 24 * hour, 10**10, 1 - SIGNED_AT):
        line = ONE.sign(TEXT, SIGNED_AT + off).line.encode()
        good = witness(200)
        async with odd(http(200, line)) as one, odd(http(200, good.sign(TEXT).line.encode())) as fine:
            found = await ask(policy({"one": (ONE.vkey, one.url), "good": (good.vkey, fine.url)}))
        close = abs(off) <= 6 * hour
        assert found.verdict.satisfied is close, off
        assert (line in found.note.encode()) is close
        assert found.sizes["one"] == SIZE
        if not close:
            side = "ahead of" if off > 0 else "behind"
            with pytest.raises(
                EvidenceError, match=rf"one: it cosigned, but its clock is [0-9,]+ hours {side} the one"
            ):
                found.require()


async def test_two_tries_and_no_third() -> None:
    one, cosigned = await ask_odd(*(http(409, b"%d\n" % size) for size in range(5, 15)))
    assert len(one.asked) == 2
    assert cosigned.sizes == {"one": 5}


async def test_a_size_that_was_claimed_is_where_the_next_proof_starts() -> None:
    _, cosigned = await ask_odd(http(409, b"7\n"), http(500))
    assert cosigned.sizes == {"one": 7}
    _, cosigned = await ask_odd(http(409, b"999\n"), size=3)
    assert cosigned.sizes == {"one": 3}, "a size that cannot be is not remembered"


async def test_both_tries_share_one_deadline() -> None:
    one, cosigned = await ask_odd(http(409, b"7\n"), silent, bounds=QUICK)
    assert len(one.asked) == 2
    assert "no whole answer within 0.5 seconds" in cosigned.answers["one"].problem


async def test_a_proof_that_cannot_be_made_is_that_witnesss_problem_alone() -> None:
    def broken(old: int) -> Sequence[bytes]:
        raise EvidenceError("log: tile/0/000 is not there")

    async with odd(http(200, GOOD)) as one:
        rules = policy({"one": (ONE.vkey, one.url)})
        cosigned = await collect(note(size=SIZE), rules, broken, {"one": 7}, NOW)
    assert cosigned.answers["one"].problem == "there is no proof from its size 7: log: tile/0/000 is not there"


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "names no URL"),
        ("ftp://127.0.0.1/", "none of http or https"),
        ("file:///etc/passwd", "none of http or https"),
        ("http://", "is none|cannot be reached"),
        ("http://[::1", "is none"),
        ("http://127.0.0.1:99999", "is none"),
        ("http://" + "a" * 70 + ".example", "cannot be reached"),
        ("http://127.0.0.1:{closed}", "cannot be reached"),
    ],
)
async def test_urls_where_nobody_is(url: str, words: str) -> None:
    rules = policy({"one": (ONE.vkey, url.replace("{closed}", str(closed_port())))})
    cosigned = await ask(rules)
    assert re.search(words, cosigned.answers["one"].problem), cosigned.answers
    found = await held(rules, LOG.key)
    assert re.search(words, found["one"].problem), found


async def test_a_key_of_an_unknown_kind_is_not_asked() -> None:
    async with odd(http(200, GOOD)) as one:
        text = f"log {LOG.vkey}\nwitness new wit.example/new+00000000+BgAA {one.url}\nquorum new\n"
        rules = parse_policy(text.encode())
        cosigned = await ask(rules)
        found = await held(rules, LOG.key)
    assert one.asked == []
    assert "kind" in cosigned.answers["new"].problem
    assert "kind" in found["new"].problem


# what witnesses hold


async def held_by(answer: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]], bounds: Bounds = QUICK) -> Held:
    async with odd(answer) as one:
        return (await held(policy({"one": (ONE.vkey, one.url)}), LOG.key, bounds=bounds))["one"]


async def test_what_a_real_witness_holds(tmp_path: Path) -> None:
    home = make_witness(tmp_path / "w")
    async with serving(home) as client:
        rules = policy({"only": (home.key.vkey, f"http://127.0.0.1:{client.port}")})
        assert (await held(rules, LOG.key))["only"] == Held("only")
        (await ask(rules)).require()
        found = (await held(rules, LOG.key))["only"]
    assert found.checkpoint == LONG.checkpoint(SIZE)
    assert (found.time, found.problem) == (SIGNED_AT, "")


async def test_what_is_asked_to_see_what_it_holds() -> None:
    async with odd(http(404)) as one:
        await held(policy({"one": (ONE.vkey, one.url)}), LOG.key)
    assert one.heads[0].startswith(f"GET /{ORIGIN_ID}/checkpoint HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (signed(LONG.checkpoint(5), LOG), "not cosigned"),
        (signed(LONG.checkpoint(5), ONE), "no signature of the log"),
        (signed(LONG.checkpoint(5), LOG, STRANGER), "not cosigned"),
        (signed(Checkpoint("log.example/other", 5, bytes(32)), LOG, ONE), "not a log that is known"),
        (signed(Checkpoint(LOG.name, 0, bytes(32)), LOG, ONE), "empty log has another root"),
        (SignedNote(LONG.checkpoint(5).text, (LOG.sign(OTHER_TEXT), ONE.sign(LONG.checkpoint(5).text))), "is bad"),
        (SignedNote(LONG.checkpoint(5).text, (LOG.sign(LONG.checkpoint(5).text), ONE.sign(OTHER_TEXT))), "is bad"),
    ],
)
async def test_what_a_witness_shows_is_verified(shown: SignedNote, words: str) -> None:
    found = await held_by(http(200, shown.encode()))
    assert (found.checkpoint, found.note, found.time) == (None, None, None)
    assert words in found.problem


async def test_odd_answers_to_what_it_holds_are_problems() -> None:
    for name, (answer, _) in ODD.items():
        found = await held_by(answer)
        assert found.checkpoint is None, name
        assert bool(found.problem) == (name != "unknown"), name


async def check(size: int, root_of: MemoryLog, *shown: SignedNote | None) -> dict[str, Held]:
    """What a log of that tree finds at start, when witnesses show these."""
    async with AsyncExitStack() as stack:
        urls = {}
        for number, one in enumerate(shown, 1):
            answer = http(200, one.encode()) if one is not None else http(404)
            urls[f"w{number}"] = (witness(number).vkey, (await stack.enter_async_context(odd(answer))).url)
        return await check_not_behind(policy(urls), LOG.key, size, root_of.root)


def shown(number: int, size: int, log: MemoryLog = LONG) -> SignedNote:
    return signed(log.checkpoint(size), LOG, witness(number))


async def test_a_log_that_is_level_or_ahead_may_go_on() -> None:
    for size in (1, 5, 9):
        for first in range(1, size + 1, 2):
            found = await check(size, LONG, shown(1, first), None, shown(3, size))
            assert [one.checkpoint and one.checkpoint.size for one in found.values()] == [first, None, size]


async def test_an_old_copy_is_noticed_when_one_witness_holds_more() -> None:
    for size in (0, 1, 5):
        with pytest.raises(StateError) as refusal:
            await check(size, LONG, shown(1, 1), shown(2, size + 1), shown(3, size + 2))
        assert f"holds {size} entries here, and witness w3 holds {size + 2}" in refusal.value.what
        assert "newer backup" in refusal.value.todo
        assert "nothing was signed" in refusal.value.kept


async def test_an_old_copy_that_grew_again_is_noticed_though_it_is_larger() -> None:
    restored = fork(4, 12)
    with pytest.raises(StateError, match=r"first 6 entries here are not those that witness w1 holds.*forked"):
        await check(12, restored, shown(1, 6))
    await check(12, restored, shown(1, 4))


async def test_a_witness_that_lies_does_not_stop_a_log() -> None:
    """Without the log's own signature a larger checkpoint is worth nothing."""
    forged = signed(LONG.checkpoint(30), STRANGER, witness(1))
    found = await check(5, LONG, forged, shown(2, 5))
    assert "no signature of the log" in found["w1"].problem


async def test_the_empty_log_is_level_with_an_empty_tree() -> None:
    empty = signed(Checkpoint(LOG.name, 0, EMPTY_ROOT), LOG, witness(1))
    assert (await check(0, MemoryLog(), empty))["w1"].checkpoint == Checkpoint(LOG.name, 0, EMPTY_ROOT)


async def test_the_whole_story_of_an_old_backup(tmp_path: Path) -> None:
    """A log is restored from a backup: it is told at start, and if it does not listen, no witness follows it."""
    home: WitnessHome = make_witness(tmp_path / "w")
    async with serving(home) as client:
        rules = policy({"only": (home.key.vkey, f"http://127.0.0.1:{client.port}")})
        (await collect(note(size=9), rules, prove, {}, NOW)).require()
        backup = fork(4, 4)
        with pytest.raises(StateError, match="old copy"):
            await check_not_behind(rules, LOG.key, backup.size, backup.root)
        backup.append([b"a second fifth entry"])
        cosigned = await collect(
            note(backup), rules, lambda old: prove_consistency(old, 5, backup.reader()), {"only": 4}, NOW
        )
        with pytest.raises(EvidenceError, match="holds 9 entries, and this checkpoint has 5: is this log an old copy"):
            cosigned.require()
