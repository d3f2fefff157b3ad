"""What an edge remembers of its own age: written as it changes, believed only for what is really served."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from coldchain.mirror import generation
from coldchain_server.edge.freshness import ALARM_SECONDS, Freshness, Served, parse_served
from tests.client.agent.publisher import FIRST
from tests.server.edge.edges import Place

times = st.integers(946_684_800, 4_102_444_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=9)
states = st.builds(
    Served,
    st.sampled_from(["", "0123456789abcdef"]),
    st.none() | times,
    st.none() | times,
    st.lists(st.tuples(words, words, st.integers(1, 2**53 - 1)), max_size=4).map(tuple),
)


@given(states, st.data())
def test_it_comes_back_as_written_and_damaged_is_empty(state: Served, data: st.DataObject) -> None:
    whole = state.encode()
    assert parse_served(whole) == state
    at = data.draw(st.integers(0, len(whole) - 1))
    for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))]) + whole[at + 1 :]):
        found = parse_served(damaged)
        assert found == Served() or found.encode() == damaged
    assert parse_served(None) == Served()


async def test_ages_are_told_and_outlive_the_process(tmp_path: Path) -> None:
    place = Place(tmp_path, ("us",))
    place.publish(1, FIRST)
    done = await place.apull()
    now = datetime(2026, 6, 1, 12, tzinfo=UTC)

    def clock() -> datetime:
        return now

    one = Freshness(place.mirror, clock)
    assert (one.age(), one.facts()["confirmed"]) == (None, None)
    assert await one.behind() == ["no upstream has confirmed yet that this is the newest"]
    one.pulled(done)
    one.confirm(now - timedelta(seconds=40))
    assert one.age() == 40
    one.confirm(now - timedelta(seconds=90))  # an older word takes nothing back
    assert one.age() == 40
    assert (await one.behind(), await one.expired()) == ([], [])
    now += timedelta(seconds=ALARM_SECONDS)
    again = Freshness(place.mirror, clock)
    assert again.age() == 40 + ALARM_SECONDS
    assert again.served == one.served
    assert "no upstream has answered for 940 seconds" in await again.behind()
    assert done.good_until is not None
    now = done.good_until
    assert await again.expired() == [f"what is served expired {done.good_until:%Y-%m-%dT%H:%M:%SZ}"]
    now = datetime(2026, 6, 1, tzinfo=UTC)  # the clock went back
    assert again.age() == 0
    again.confirm(now)
    now += timedelta(seconds=7)
    assert again.age() == 7
    files = generation.whole(place.mirror)
    generation.publish(place.mirror, {**files, "extra.json": b"1"}, {})
    died = Freshness(place.mirror, clock)  # between the switch and its word
    assert died.served == Served(confirmed=again.served.confirmed)
    assert died.age() == 7
