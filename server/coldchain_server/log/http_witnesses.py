"""The witnesses of a policy, asked over HTTP, as the release room wants them (:class:`coldchain_server.release.log.Witnesses`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from coldchain.errors import EvidenceError
from coldchain.tlog.note import SignedNote
from coldchain.tlog.policy import Policy
from coldchain.tlog.vkey import NoteKey
from coldchain_server.log import witness_client
from coldchain_server.log.witness_client import BOUNDS, Bounds, Prove, RootAt


class HttpWitnesses:
    """Asks every witness at the URL that the policy gives it, all at once, each within its bounds."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.bounds = bounds

    async def check_not_behind(self, policy: Policy, log: NoteKey, size: int, root_at: RootAt) -> None:
        """See the interface."""
        await witness_client.check_not_behind(policy, log, size, root_at, bounds=self.bounds)

    async def collect(
        self, note: SignedNote, policy: Policy, prove: Prove, sizes: Mapping[str, int], now: datetime
    ) -> tuple[SignedNote, EvidenceError | None]:
        """See the interface."""
        cosigned = await witness_client.collect(note, policy, prove, sizes, now, bounds=self.bounds)
        try:
            cosigned.require()
        except EvidenceError as error:
            return cosigned.note, error
        return cosigned.note, None
