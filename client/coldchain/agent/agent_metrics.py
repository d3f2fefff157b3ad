"""What an agent tells Prometheus' textfile collector.

Worth an alarm: ``coldchain_agent_stale == 1``, ``coldchain_agent_exit_code != 0`` for some hours, and
``time() - coldchain_agent_next_poll_timestamp_seconds > 900``, since an agent that does not run tells nothing new.
"""

from __future__ import annotations

from datetime import datetime

from coldchain.install.agent_state import AgentState
from coldchain.prometheus import Gauges


def agent_metrics(
    state: AgentState, release: int | None, good_until: datetime | None, *, stale: bool, next_poll: float
) -> bytes:
    """The file's bytes.

    Args:
        state: what the agent remembers.
        release: that runs; None for none.
        good_until: when the metadata in force expires; None when there is none.
        stale: whether it has.
        next_poll: when the next poll is due (Unix seconds).
    """
    gauges = Gauges("coldchain_agent_")

    def seconds(time: datetime | None) -> int:
        return int(time.timestamp()) if time else 0

    gauges.add("release", "The release that runs; 0 for none.", [("", release or 0)])
    gauges.add("stale", "Whether the metadata in force has expired.", [("", int(stale))])
    gauges.add("good_until_timestamp_seconds", "When the metadata in force expires.", [("", seconds(good_until))])
    gauges.add(
        "exit_code",
        "How the last poll ended; docs/exit-codes.md says what that means.",
        [("", state.error[0] if state.error else 0)],
    )
    gauges.add("failures", "Failed polls in a row.", [("", state.failures)])
    gauges.add("last_poll_timestamp_seconds", "When the last poll ended.", [("", seconds(state.last_poll))])
    gauges.add("last_good_timestamp_seconds", "When the last good poll ended.", [("", seconds(state.last_good))])
    gauges.add("next_poll_timestamp_seconds", "When the next poll is due.", [("", int(next_poll))])
    gauges.add("received_bytes", "Bytes of bodies of good polls since agent.json was begun.", [("", state.received)])
    return gauges.encode()
