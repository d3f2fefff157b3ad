"""What witnesses show of a log: C2SP tlog-witness, the monitoring side.

::

    GET <witness URL>/<lower-case hex sha256(origin)>/checkpoint

    200   the largest checkpoint that the witness cosigned, with the log's signature and its own     404   none of this log

Every witness of the policy that has a URL is asked, all at once. Nothing a witness does raises: what cannot be used becomes a problem
in words.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from coldchain.agent.transport import Source, Traffic, open_sources
from coldchain.errors import ColdchainError
from coldchain.install.directory import normal_url
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.checkpoint import Checkpoint, open_checkpoint
from coldchain.tlog.note import SignedNote, parse_note
from coldchain.tlog.policy import Policy, Witness
from coldchain.tlog.vkey import NoteKey


@dataclass(frozen=True, slots=True)
class Held:
    """What one witness shows.

    Attributes:
        witness: its name in the policy.
        checkpoint: the largest it cosigned; None when it shows none.
        note: the same as signed note.
        time: when it cosigned (Unix seconds).
        problem: why nothing can be seen; empty also when it says that it holds none.
    """

    witness: str
    checkpoint: Checkpoint | None = None
    note: SignedNote | None = None
    time: int | None = None
    problem: str = ""


async def held(policy: Policy, logs: Sequence[NoteKey], traffic: Traffic, limits: Limits = LIMITS) -> list[Held]:
    """What every witness of the policy shows of these logs, in the policy's order.

    Args:
        policy: whose witnesses are asked.
        logs: keys of one log; the first one's name is the origin that is asked for.
        traffic: counts.
        limits: bounds.
    """
    asked = [one for one in policy.witnesses.values() if one.url]
    return list(await asyncio.gather(*[_look(one, logs, traffic, limits) for one in asked]))


async def _look(witness: Witness, logs: Sequence[NoteKey], traffic: Traffic, limits: Limits) -> Held:
    path = f"{hashlib.sha256(logs[0].name.encode()).hexdigest()}/checkpoint"
    try:
        if witness.key is None:
            return Held(witness.name, problem="its key is of a kind this client does not know")
        if not witness.url.lower().startswith(
            ("http://", "https://")
        ):  # the publisher wrote it: no directory of ours is meant
            return Held(witness.name, problem="the policy's URL for it is none of http or https")
        async with open_sources([normal_url(witness.url)], traffic, limits) as sources:
            source: Source = sources[0]
            answer = await source.get(path, limits.note_bytes)
        if answer.data is None:
            return Held(witness.name)
        opened = open_checkpoint(parse_note(answer.data, limits), logs, [witness.key])
        time = opened.opened.signed.get(witness.key)
    except ColdchainError as error:
        return Held(witness.name, problem=error.what)
    if time is None:
        return Held(witness.name, problem="it shows a checkpoint that it has not cosigned")
    return Held(witness.name, opened.checkpoint, opened.note, time)
