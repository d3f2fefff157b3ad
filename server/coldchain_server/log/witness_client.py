"""Asking witnesses: for cosignatures on a checkpoint, and for what they hold. C2SP tlog-witness, the log's side.

::

    cosigned = await collect(note, policy, prove, sizes, now)     every witness of the policy at once, each within its time
    cosigned.require()                                            EvidenceError that names who did not cosign, and why
    sizes = cosigned.sizes                                        remember them: the next proofs start there

    await check_not_behind(policy, log_key, size, root_at)        before a log signs anything: StateError when a witness
                                                                  holds more than its tree, or something else

One witness is asked once, or twice when it answers 409 with the size it has: the second proof starts there. Nothing a witness
does raises: each gets an :class:`Answer` with a cosignature or the reason in words. What witnesses in use were seen to do::

    409 with a size                 a new proof from it, one retry; a size above the checkpoint's: this log is behind
    409 without a number            a refusal (transparency-dev sends it for a fork)
    403 for a log it does not know  a refusal (litewitness; the text says 404)
    500 for a bad signature         a refusal (transparency-dev)
    400 for extension lines         a refusal (sigsum-witness)
    429, 503                        too busy: a refusal; ask again later
    200 with lines of other keys    those are left out (a new key beside the old one)
    200 without a good line of its key, on another checkpoint, or empty: a refusal
    200 at a time hours from ours   a refusal: it would count here, and not on an endpoint whose clock is a little slower
    redirects, encoded bodies, bodies without end, answers that drip: refused at the bound or the deadline

A size in a 409 is only a claim: it selects where a proof starts and proves nothing. What :func:`held` returns is proved by the
log's own signature.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import aiohttp

from coldchain.errors import ColdchainError, EvidenceError, InternalError, MalformedError, StateError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.add_checkpoint import Question, parse_answer, parse_size
from coldchain.tlog.checkpoint import Checkpoint, open_checkpoint
from coldchain.tlog.note import NoteSignature, SignedNote, parse_note
from coldchain.tlog.policy import Policy, Verdict, Witness
from coldchain.tlog.vkey import NoteKey

_SKIPPED: Final = ("Accept", "Accept-Encoding", "User-Agent")
_QUOTED: Final = 120  # characters of a refusal that are worth a person's time

_MEANING: Final = {
    400: "it finds the request malformed",
    403: "it does not accept the log's signature; does it have this log's vkey?",
    404: "it does not follow this log; its operator must add the log's vkey",
    409: "it refuses and names no size; it may hold another log of this name",
    422: "it refuses the proof; it may hold another log of this name",
    429: "it is too busy",
    503: "it is too busy",
}

Prove = Callable[[int], Awaitable[Sequence[bytes]]]
"""The consistency proof from a size to the checkpoint that is sent. May raise errors of the tree."""

RootAt = Callable[[int], Awaitable[bytes]]
"""The root of the log's first so many entries."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one witness may take.

    Attributes:
        connect_seconds: for a connection.
        seconds: for all that it is asked at a time, both tries included.
        answer_bytes: of a body.
        clock_seconds: how far the time it signs may be from ours. Endpoints allow a day ahead of *their* clocks
            (``limits.cosignature_ahead_seconds``), and theirs differ from ours.
    """

    connect_seconds: float = 10.0
    seconds: float = 20.0
    answer_bytes: int = 64 * 1024
    clock_seconds: int = 6 * 3600


BOUNDS: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking one witness for a cosignature.

    Attributes:
        witness: its name in the policy.
        signature: its cosignature on the checkpoint that was sent, verified; None when there is none.
        time: when it cosigned (Unix seconds).
        problem: why there is no cosignature, in words; empty when there is one.
        size: how large a log it is believed to hold now; None when nothing is known.
    """

    witness: str
    signature: NoteSignature | None = None
    time: int | None = None
    problem: str = ""
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint after all witnesses were asked.

    Attributes:
        note: the checkpoint with the log's signature and every cosignature that came.
        verdict: what the policy makes of it.
        answers: by the witnesses' names in the policy.
    """

    note: SignedNote
    verdict: Verdict
    answers: Mapping[str, Answer]

    @property
    def sizes(self) -> dict[str, int]:
        """What to remember: the sizes that witnesses hold, by name."""
        return {name: answer.size for name, answer in self.answers.items() if answer.size is not None}

    @property
    def problems(self) -> dict[str, str]:
        """Who did not cosign, or does not count, and why."""
        found = {name: reason for name, reason in self.verdict.uncounted.items() if reason}
        found.update(
            (name, answer.problem) for name, answer in self.answers.items() if answer.problem and name in found
        )
        return found

    def require(self) -> SignedNote:
        """The note, for a caller that fails closed.

        Raises:
            EvidenceError: the quorum is not there; the message names who did not cosign and why.
        """
        if not self.verdict.satisfied:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.problems.items())
            raise EvidenceError(
                f"no quorum of witnesses for this checkpoint: {reasons or self.verdict.lacking}",
                kept="the log keeps the entry, and nothing is released without its quorum",
                todo="bring the witnesses named above back, then run it again: the same checkpoint can still be cosigned",
            )
        return self.note


@dataclass(frozen=True, slots=True)
class Held:
    """What a witness shows of a log.

    Attributes:
        witness: its name in the policy.
        checkpoint: the largest it cosigned, with the log's good signature; None when it shows none.
        note: the signed checkpoint.
        time: when this witness cosigned it (Unix seconds).
        problem: why it could not be seen; empty also when the witness says that it holds none.
    """

    witness: str
    checkpoint: Checkpoint | None = None
    note: SignedNote | None = None
    time: int | None = None
    problem: str = ""


async def collect(
    note: SignedNote,
    policy: Policy,
    prove: Prove,
    sizes: Mapping[str, int],
    now: datetime,
    *,
    bounds: Bounds = BOUNDS,
    limits: Limits = LIMITS,
) -> Cosigned:
    """Asks every witness of a policy for its cosignature, all at once, and judges what came.

    Args:
        note: the checkpoint with the log's signature; cosignatures it has already are kept and count.
        policy: whose witnesses to ask, at their URLs.
        prove: makes the consistency proof from a witness's size.
        sizes: the sizes that witnesses held last, by their names in the policy; those without start at 0.
        now: the present time, with a time zone.
        bounds: what a witness may take.
        limits: bounds of what is read.

    Raises:
        MalformedError, EvidenceError, SignatureError: ``note`` is no checkpoint of a log that the policy lists.
    """
    if now.tzinfo is None:
        raise InternalError("a time without a time zone")
    asked = await submit(note, policy, prove, sizes, bounds=bounds, limits=limits)
    answers = {name: _in_time(answer, now, bounds) for name, answer in asked.items()}
    new = [answer.signature for answer in answers.values() if answer.signature is not None]
    replaced = {(one.name, one.key_id) for one in new}
    kept = [one for one in note.signatures if (one.name, one.key_id) not in replaced]
    cosigned = replace(note, signatures=(*kept, *new))
    by_key = policy.witness_keys
    opened = open_checkpoint(cosigned, policy.log_keys, by_key)
    times = {by_key[key].name: time for key, time in opened.opened.signed.items() if time is not None}
    return Cosigned(cosigned, policy.evaluate(times, now, limits), answers)


def _in_time(answer: Answer, now: datetime, bounds: Bounds) -> Answer:
    """Without the cosignature, if it speaks of a time that is far from ours."""
    if answer.time is None or abs(answer.time - now.timestamp()) <= bounds.clock_seconds:
        return answer
    hours = abs(answer.time - int(now.timestamp())) // 3600
    side = "ahead of" if answer.time > now.timestamp() else "behind"
    problem = f"it cosigned, but its clock is {hours:,} hours {side} the one here; one of them is wrong"
    return replace(answer, signature=None, time=None, problem=problem)


async def submit(
    note: SignedNote,
    policy: Policy,
    prove: Prove,
    sizes: Mapping[str, int],
    *,
    bounds: Bounds = BOUNDS,
    limits: Limits = LIMITS,
) -> dict[str, Answer]:
    """The asking alone; see :func:`collect`. Answers come by the witnesses' names, in the policy's order."""
    checkpoint = open_checkpoint(note, policy.log_keys, policy.witness_keys).checkpoint
    async with _session(bounds) as session:
        asked = [
            _Asking(session, witness, note, checkpoint, prove, bounds, limits).ask(sizes.get(name))
            for name, witness in policy.witnesses.items()
        ]
        return {answer.witness: answer for answer in await asyncio.gather(*asked)}


async def held(policy: Policy, log: NoteKey, *, bounds: Bounds = BOUNDS, limits: Limits = LIMITS) -> dict[str, Held]:
    """What every witness of a policy shows of the log with this key: ``GET <prefix>/<hex sha256(origin)>/checkpoint``.

    A witness may lag behind what it cosigned by up to an hour. Answers come by the witnesses' names, in the policy's order.
    """
    async with _session(bounds) as session:
        looked = [_look(session, witness, log, bounds, limits) for witness in policy.witnesses.values()]
        return {one.witness: one for one in await asyncio.gather(*looked)}


async def check_not_behind(
    policy: Policy,
    log: NoteKey,
    size: int,
    root_at: RootAt,
    *,
    bounds: Bounds = BOUNDS,
    limits: Limits = LIMITS,
) -> dict[str, Held]:
    """Compares a log's tree with what the witnesses hold of it, before the log signs anything more.

    A log that was restored from an old backup would otherwise grow a second time from there, and prove itself a fork.

    Args:
        policy: whose witnesses to ask.
        log: the log's key.
        size: entries in its tree.
        root_at: the root of its tree's first so many entries; asked for sizes up to ``size``.
        bounds: what a witness may take.
        limits: bounds of what is read.

    Returns:
        What each witness holds; those with a ``problem`` could not be asked, and the caller knows whether that is enough.

    Raises:
        StateError: a witness holds more than the tree, or another tree, and the log's own signature proves it.
    """
    found = await held(policy, log, bounds=bounds, limits=limits)
    for one in sorted(found.values(), key=lambda one: -(one.checkpoint.size if one.checkpoint else 0)):
        if one.checkpoint is None:
            continue
        if one.checkpoint.size > size:
            raise StateError(
                f"the log holds {size} entries here, and witness {one.witness} holds {one.checkpoint.size}, signed by this log's"
                " own key: this is an old copy of the log",
                kept="nothing was signed; the tree is as it was",
                todo=f"restore the log's entries and tiles up to entry {one.checkpoint.size} from a newer backup, a mirror or"
                " a monitor, and run it again. If they are lost, give up this log: found one with a new name and key."
                " Going on from here would prove it a fork",
            )
        if await root_at(one.checkpoint.size) != one.checkpoint.root:
            raise StateError(
                f"the log's first {one.checkpoint.size} entries here are not those that witness {one.witness} holds, signed by"
                " this log's own key: the log has forked",
                kept="nothing was signed; the tree is as it was",
                todo="find out who signed the other one. If this copy was restored from a backup and grew since, restore the"
                f" log up to entry {one.checkpoint.size} from a mirror or a monitor. Otherwise its key is in other hands:"
                " found a log with a new name and key",
            )
    return found


@asynccontextmanager
async def _session(bounds: Bounds) -> AsyncIterator[aiohttp.ClientSession]:
    session = aiohttp.ClientSession(
        skip_auto_headers=_SKIPPED,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=bounds.connect_seconds),
        max_line_size=LIMITS.header_bytes,
        max_field_size=LIMITS.header_bytes,
        max_headers=64,
    )
    async with session:
        yield session


class _NoAnswerError(Exception):
    """There is none, or none that is looked at; its text says why."""


@asynccontextmanager
async def _deadline(bounds: Bounds) -> AsyncIterator[None]:
    """Turns every way in which HTTP fails into :class:`_NoAnswerError`."""
    try:
        async with asyncio.timeout(bounds.seconds):
            yield
    except aiohttp.ServerTimeoutError as error:
        raise _NoAnswerError(f"no connection within {bounds.connect_seconds:g} seconds") from error
    except TimeoutError as error:
        raise _NoAnswerError(f"no whole answer within {bounds.seconds:g} seconds") from error
    except aiohttp.InvalidURL as error:
        raise _NoAnswerError("the policy's URL for it is none") from error
    except aiohttp.ClientPayloadError as error:
        raise _NoAnswerError("the connection broke off in the middle of its answer") from error
    except aiohttp.ClientResponseError as error:
        raise _NoAnswerError("its answer is not HTTP") from error
    except (aiohttp.ClientError, OSError, UnicodeError) as error:
        raise _NoAnswerError(f"cannot be reached: {_plain(str(error))}") from error


async def _read(response: aiohttp.ClientResponse, bounds: Bounds) -> bytes:
    if 300 <= response.status < 400:
        raise _NoAnswerError(f"it answers {response.status}, a redirect; those are not followed")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _NoAnswerError("its answer comes encoded, which nobody asked for")
    data = bytearray()
    async for block in response.content.iter_any():
        data += block
        if len(data) > bounds.answer_bytes:
            raise _NoAnswerError(
                f"its answer ({response.status}) is longer than the allowed {bounds.answer_bytes} bytes"
            )
    return bytes(data)


def _refusal(status: int, body: bytes) -> str:
    meaning = _MEANING.get(status, "it failed" if status >= 500 else "no answer that a witness should give")
    said = _plain(body.decode("ascii", "replace"))
    return f"it answers {status}: {meaning}" + (f" ({said})" if said else "")


def _plain(text: str) -> str:
    """The beginning of foreign words, fit for a message."""
    line = " ".join(text.split())
    return "".join(char for char in line if char.isascii() and char.isprintable())[:_QUOTED]


def _url(witness: Witness, path: str) -> str:
    if not witness.url:
        raise _NoAnswerError("the policy names no URL for it")
    if not witness.url.lower().startswith(("http://", "https://")):
        raise _NoAnswerError("the policy's URL for it is none of http or https")
    return f"{witness.url.rstrip('/')}/{path}"


@dataclass(frozen=True, slots=True)
class _Asking:
    """One witness, one checkpoint."""

    session: aiohttp.ClientSession
    witness: Witness
    note: SignedNote
    checkpoint: Checkpoint
    prove: Prove
    bounds: Bounds
    limits: Limits

    async def ask(self, remembered: int | None) -> Answer:
        """The answer, whatever the witness does."""
        known = [remembered]  # the last is what is believed of it
        try:
            if self.witness.key is None:
                raise _NoAnswerError("its key is of a kind this program does not know")
            url = _url(self.witness, "add-checkpoint")
            async with _deadline(self.bounds):
                # a size above the checkpoint's cannot be said: the witness will tell what it has now
                status, body = await self._post(url, min(remembered or 0, self.checkpoint.size))
                if status == 409:
                    size = self._size(body)
                    known.append(size)
                    status, body = await self._post(url, size)
            if status == 409:
                raise _NoAnswerError("it answers 409 again, after a proof from the size it named itself")
            return self._cosignature(self.witness.key, status, body)
        except _NoAnswerError as error:
            return Answer(self.witness.name, problem=str(error), size=known[-1])

    async def _post(self, url: str, old: int) -> tuple[int, bytes]:
        body = Question(old, await self._proof(old), self.note).encode()
        async with self.session.post(url, data=body, allow_redirects=False) as response:
            return response.status, await _read(response, self.bounds)

    async def _proof(self, old: int) -> tuple[bytes, ...]:
        if old in (0, self.checkpoint.size):
            return ()  # some witnesses take a proof from 0 and others do not; none is right
        try:
            return tuple(await self.prove(old))
        except ColdchainError as error:
            raise _NoAnswerError(f"there is no proof from its size {old}: {error.what}") from error

    def _size(self, body: bytes) -> int:
        """Where the second try starts."""
        try:
            size = parse_size(body)
        except MalformedError as error:
            raise _NoAnswerError(_refusal(409, body)) from error
        if size > self.checkpoint.size:
            raise _NoAnswerError(
                f"it holds {size} entries, and this checkpoint has {self.checkpoint.size}: is this log an old copy?"
            )
        return size

    def _cosignature(self, key: NoteKey, status: int, body: bytes) -> Answer:
        if status != 200:
            raise _NoAnswerError(_refusal(status, body))
        if not body:
            raise _NoAnswerError("it answers 200 without a cosignature")
        try:
            found = parse_answer(body, self.note, [key], self.limits)
        except ColdchainError as error:
            raise _NoAnswerError(f"it answers 200 without its cosignature on this checkpoint: {error.what}") from error
        signature, time = next(iter(found.items()))
        return Answer(self.witness.name, signature, time, size=self.checkpoint.size)


async def _look(session: aiohttp.ClientSession, witness: Witness, log: NoteKey, bounds: Bounds, limits: Limits) -> Held:
    try:
        if witness.key is None:
            raise _NoAnswerError("its key is of a kind this program does not know")
        url = _url(witness, f"{hashlib.sha256(log.name.encode()).hexdigest()}/checkpoint")
        async with _deadline(bounds), session.get(url, allow_redirects=False) as response:
            status, body = response.status, await _read(response, bounds)
        if status == 404:
            return Held(witness.name)
        if status != 200:
            raise _NoAnswerError(_refusal(status, body))
        try:
            opened = open_checkpoint(parse_note(body, limits), [log], [witness.key])
        except ColdchainError as error:
            raise _NoAnswerError(f"it shows no checkpoint of this log: {error.what}") from error
        time = opened.opened.signed.get(witness.key)
        if time is None:
            raise _NoAnswerError("it shows a checkpoint that it has not cosigned")
        return Held(witness.name, opened.checkpoint, opened.note, time)
    except _NoAnswerError as error:
        return Held(witness.name, problem=str(error))
