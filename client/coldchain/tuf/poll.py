"""The fast poll: usually one conditional request, the full workflow when it matters. Pure; the caller fetches.

A poll asks for ``metadata/timestamp.json`` with ``If-None-Match``. Everything in the repository hangs on that file, so
an unchanged one means that nothing changed. The rule, in one table:

==========================================================  ===============================
what is known                                               what the poll does
==========================================================  ===============================
no usable timestamp is stored                               full workflow, without asking
the stored timestamp has 6 hours or less to live            full workflow, without asking
the last full workflow is 24 hours or more ago              full workflow, without asking
the last full workflow lies in the future (clock went back) full workflow, without asking
otherwise: conditional request answered "not modified"      done: current
                                   answered with other bytes  the pack, else full workflow
                                   answered with stored bytes done: current
                                   failed                     full workflow (other mirrors, backoff)
==========================================================  ===============================

6 hours, not a share of the lifetime: the file states when it ends, not when it began. A replayed "not modified" can
therefore hide news for at most the timestamp's lifetime less 6 hours, after which the full workflow asks without
conditions and the signed expiry decides; and a new root is seen within a day.

*The pack*: where the other bytes are a good, newer timestamp and the server has the pack that it leads to, the same workflow goes on
with that (:mod:`coldchain.agent.quick_update`). It asks for no newer root than the pack holds, and therefore does not count as a full
one: a day after the last full one the next is due all the same.

Worked example: the timestamp ends at 18:00, the last full workflow was at 09:00 the same day. Polls up to 11:59 are one
conditional request each; from 12:00 on each is a full workflow, until a newer timestamp comes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from coldchain.errors import ColdchainError
from coldchain.limits import LIMITS, Limits
from coldchain.tuf.metadata import parse_metadata

MARGIN = timedelta(hours=6)
FULL_EVERY = timedelta(days=1)

Answer = Literal["not asked", "not modified", "failed"]


def full_refresh_reason(
    timestamp: bytes | None,
    now: datetime,
    last_full: datetime | None,
    answer: Answer | bytes = "not asked",
    limits: Limits = LIMITS,
) -> str | None:
    """Why the full workflow is due, in words for a log; None when the poll is done (or a conditional request is due).

    Args:
        timestamp: the stored timestamp.json, verified when it was stored; None if there is none.
        now: UTC.
        last_full: when the full workflow last succeeded.
        answer: what the conditional request brought: the bytes of a 200, "not modified" for a 304 that answers our own
            ``If-None-Match``, "failed", or "not asked" before it was sent.
        limits: bounds on foreign bytes.
    """
    if timestamp is None:
        return "no timestamp is stored"
    try:
        expires = parse_metadata(timestamp, "timestamp", limits).expires
    except ColdchainError:
        return "the stored timestamp is damaged"
    if last_full is None:
        return "no full check was made yet"
    if last_full > now:
        return "the clock went back since the last full check"
    if now - last_full >= FULL_EVERY:
        return "the last full check is a day old"
    if expires - now <= MARGIN:
        return "the stored timestamp expires within 6 hours"
    if answer == "failed":
        return "the quick check failed"
    if isinstance(answer, bytes) and answer != timestamp:
        return "the timestamp changed"
    return None


def needs_full_refresh(
    timestamp: bytes | None,
    now: datetime,
    last_full: datetime | None,
    answer: Answer | bytes = "not asked",
    limits: Limits = LIMITS,
) -> bool:
    """Whether :func:`full_refresh_reason` names one."""
    return full_refresh_reason(timestamp, now, last_full, answer, limits) is not None
