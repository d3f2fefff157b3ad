"""Whether another source has a newer timestamp than the one that is asked first, which may be frozen, or hold back news on purpose.

A source that serves yesterday's files, whole and well signed, shows nothing wrong until they expire; one that always lags some hours
behind not even then. So the other sources are asked too, the first time and every 6 hours; and once an hour where the same timestamp
has been in force for 6 hours, or a copy says that it is more than an hour old: one conditional request each, about 115 bytes up.

What another source says is only a hint until the full workflow has verified it; a liar gains that it is asked first, once, and the
others are asked all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from coldchain.agent.transport import Source, computed_etag
from coldchain.errors import ColdchainError, TransportError
from coldchain.limits import Limits
from coldchain.tuf.metadata import parse_metadata

TIMESTAMP = "metadata/timestamp.json"


def newer(data: bytes, version: int, limits: Limits) -> bool:
    """Whether these bytes say that they are a timestamp of a higher version. Nothing is verified."""
    try:
        return parse_metadata(data, "timestamp", limits).version > version
    except ColdchainError:
        return False


async def newer_elsewhere(others: Iterable[Source], timestamp: bytes, version: int, limits: Limits) -> Source | None:
    """The first of these sources that says it has a newer timestamp; None when none does.

    Args:
        others: whom to ask.
        timestamp: the one in force, and
        version: its version.
        limits: bounds.
    """
    etag = computed_etag(hashlib.sha256(timestamp).hexdigest())
    for source in others:
        try:
            answer = await source.get(TIMESTAMP, limits.timestamp_bytes, etag=etag)
        except TransportError:
            continue
        if answer.data is not None and newer(answer.data, version, limits):
            return source
    return None
