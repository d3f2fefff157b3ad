"""What every backend promises; see conftest.py for the backends."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coldchain.errors import BusyError, StateError
from coldchain_server.catalogue.interface import STEPS, Bundle, Catalogue, Feed, Release, Snapshot, State
from tests.server.catalogue.conftest import Open

THEN, LATER = "2026-06-01T12:00:00Z", "2026-06-02T12:00:00Z"
STATES: tuple[State, ...] = ("built", "logged", "approved", "published", "discarded")
FEED = Feed("acme", "clamav", "/srv/acme", False)
# The ways from "built" to each state.
WAYS: dict[State, tuple[State, ...]] = {
    "built": (),
    "logged": ("logged",),
    "approved": ("logged", "approved"),
    "published": ("logged", "approved", "published"),
    "discarded": ("discarded",),
}


def release(number: int, channel: str = "stable") -> Release:
    return Release(channel, number, "built", f"{number:064x}", THEN, THEN)


def bundles(number: int, channel: str = "stable") -> list[Bundle]:
    return [Bundle(channel, number, region, f"{number:064x}", 10, 1) for region in ("us", "global", "jp")]


async def test_a_new_catalogue_is_empty(catalogue: Catalogue) -> None:
    assert await catalogue.feeds() == []
    assert await catalogue.releases("stable") == []
    assert await catalogue.release("stable", 1) is None
    assert await catalogue.bundles("stable", 1) == []
    assert await catalogue.snapshots("acme") == []
    assert await catalogue.next_number("stable") == 1


async def test_feeds_are_added_changed_and_forgotten(catalogue: Catalogue) -> None:
    for name in ("b", "a", "c"):
        await catalogue.put_feed(replace(FEED, name=name))
    assert [feed.name for feed in await catalogue.feeds()] == ["a", "b", "c"]
    changed = Feed("b", "yara", "/elsewhere", True, "f" * 64)
    await catalogue.put_feed(changed)
    assert (await catalogue.feeds())[1] == changed
    assert await catalogue.remove_feed("b") is True
    assert await catalogue.remove_feed("b") is False
    assert [feed.name for feed in await catalogue.feeds()] == ["a", "c"]


text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.builds(Feed, name=text, kind=text, path=text, skip_bad=st.booleans(), snapshot=text))
def test_any_text_comes_back_as_it_went_in(runner: asyncio.Runner, backend: Open, feed: Feed) -> None:
    async def work() -> None:
        catalogue = await backend()
        try:
            await catalogue.put_feed(feed)
            assert feed in await catalogue.feeds()
        finally:
            await catalogue.close()

    runner.run(work())


async def test_a_snapshot_becomes_its_feeds_newest(catalogue: Catalogue) -> None:
    await catalogue.put_feed(FEED)
    first, second = (Snapshot(digest * 64, "acme", taken, 1, 2, 3) for digest, taken in (("b", THEN), ("a", LATER)))
    for one in (second, first, second):  # pulled, put back, pulled again
        await catalogue.put_snapshot(one)
        assert (await catalogue.feeds())[0].snapshot == one.digest
    assert await catalogue.snapshots("acme") == [first, second], "the oldest first, none twice"
    await catalogue.remove_feed("acme")
    assert await catalogue.snapshots("acme") == [first, second]


async def test_releases_and_bundles_come_in_order(catalogue: Catalogue) -> None:
    for number in (2, 10, 1):
        await catalogue.put_release(release(number), bundles(number))
    await catalogue.put_release(release(1, "early"), bundles(1, "early"))
    assert [one.number for one in await catalogue.releases("stable")] == [1, 2, 10]
    assert await catalogue.release("stable", 10) == release(10)
    assert [one.region for one in await catalogue.bundles("stable", 2)] == ["global", "jp", "us"]
    assert [one.channel for one in await catalogue.bundles("early", 1)] == ["early"] * 3


async def test_numbers_grow_by_channel_and_are_never_used_twice(catalogue: Catalogue) -> None:
    for number in (1, 2):
        assert await catalogue.next_number("stable") == number
        await catalogue.put_release(release(number), [])
    await catalogue.set_state("stable", 2, "discarded", LATER)
    assert await catalogue.next_number("stable") == 3
    assert await catalogue.next_number("early") == 1


async def test_a_taken_number_is_refused_whole(catalogue: Catalogue) -> None:
    await catalogue.put_release(release(1), bundles(1))
    with pytest.raises(StateError, match="release 1 of stable exists already"):
        await catalogue.put_release(replace(release(1), manifest="e" * 64), [])
    assert await catalogue.release("stable", 1) == release(1)


async def test_a_release_whose_bundles_are_refused_is_not_there(catalogue: Catalogue) -> None:
    twice = bundles(1) + bundles(1)[:1]
    with pytest.raises(StateError):
        await catalogue.put_release(release(1), twice)
    assert await catalogue.releases("stable") == []
    assert await catalogue.bundles("stable", 1) == []
    await catalogue.put_release(release(1), bundles(1))


@pytest.mark.parametrize(("start", "target"), list(itertools.product(STATES, STATES)))
async def test_a_release_takes_only_the_steps_it_may(catalogue: Catalogue, start: State, target: State) -> None:
    await catalogue.put_release(release(1), [])
    for state in WAYS[start]:
        await catalogue.set_state("stable", 1, state, THEN)
    if target in STEPS[start]:
        await catalogue.set_state("stable", 1, target, LATER)
        assert await catalogue.release("stable", 1) == replace(release(1), state=target, changed=LATER)
        return
    with pytest.raises(StateError, match=f"release 1 of stable is {start}: it cannot become {target}"):
        await catalogue.set_state("stable", 1, target, LATER)
    assert await catalogue.release("stable", 1) == replace(release(1), state=start)


@pytest.mark.parametrize("start", STATES)
async def test_only_a_release_that_is_built_and_no_more_is_forgotten(catalogue: Catalogue, start: State) -> None:
    await catalogue.put_release(release(1), bundles(1))
    for state in WAYS[start]:
        await catalogue.set_state("stable", 1, state, THEN)
    if start == "built":
        await catalogue.forget_release("stable", 1)
        assert await catalogue.releases("stable") == []
        assert await catalogue.bundles("stable", 1) == []
        assert await catalogue.next_number("stable") == 1
        await catalogue.put_release(release(1), bundles(1))
        return
    with pytest.raises(StateError, match=f"is {start}"):
        await catalogue.forget_release("stable", 1)
    assert len(await catalogue.bundles("stable", 1)) == len(bundles(1))
    with pytest.raises(StateError, match="no release 7"):
        await catalogue.forget_release("stable", 7)


async def test_an_unknown_release_takes_no_step(catalogue: Catalogue) -> None:
    with pytest.raises(StateError, match="no release 7 of stable"):
        await catalogue.set_state("stable", 7, "approved", THEN)


async def test_what_one_wrote_another_reads(another: Open) -> None:
    one, two = await another(), await another()
    await one.put_feed(FEED)
    assert await two.feeds() == [FEED]
    await two.put_release(release(1), bundles(1))
    assert await one.releases("stable") == [release(1)]


async def test_many_writers_at_once_lose_nothing(another: Open) -> None:
    """Four connections, ten writes each, one connection used by several tasks at a time."""
    every = [await another() for _ in range(4)]
    names = [f"feed-{number}" for number in range(40)]
    await asyncio.gather(*(every[at % 4].put_feed(replace(FEED, name=name)) for at, name in enumerate(names)))
    assert [feed.name for feed in await every[0].feeds()] == sorted(names)


async def test_of_many_that_take_one_number_one_gets_it(another: Open) -> None:
    every = [await another() for _ in range(4)]
    got = await asyncio.gather(
        *(one.put_release(replace(release(1), manifest=f"{at:064x}"), bundles(1)) for at, one in enumerate(every)),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in got) == ["NoneType", "StateError", "StateError", "StateError"]
    winner = got.index(None)
    found = await every[0].release("stable", 1)
    assert found is not None
    assert found.manifest == f"{winner:064x}"


async def test_of_many_steps_at_once_one_is_taken(another: Open) -> None:
    """Reading the state and writing the next is one step for the others, and nobody is turned away for being second."""
    every = [await another() for _ in range(4)]
    wanted: list[State] = ["approved", "discarded", "approved", "discarded"]
    for number in range(1, 20):
        await every[0].put_release(release(number), [])
        got = await asyncio.gather(
            *(one.set_state("stable", number, state, LATER) for one, state in zip(every, wanted, strict=True)),
            return_exceptions=True,
        )
        assert {type(one) for one in got} <= {type(None), StateError}, got
        done = [state for state, one in zip(wanted, got, strict=True) if one is None]
        assert sorted(done) in (["approved"], ["discarded"], ["approved", "discarded"])
        found = await every[0].release("stable", number)
        assert found is not None
        assert found.state == ("discarded" if "discarded" in done else "approved")


async def test_a_cancelled_write_is_there_or_not_and_blocks_nobody(another: Open) -> None:
    catalogue = await another()
    for number in range(1, 30):
        task = asyncio.ensure_future(catalogue.put_release(release(number), bundles(number)))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        found = await catalogue.bundles("stable", number)
        assert len(found) == (3 if await catalogue.release("stable", number) else 0)
    await catalogue.put_feed(FEED)
    assert await (await another()).feeds() == [FEED]


async def test_one_publisher_at_a_time(another: Open) -> None:
    one, two = await another(), await another()
    async with one.publisher():
        with pytest.raises(BusyError, match="another publisher is at work"):
            async with two.publisher():
                raise AssertionError("two publishers")
        await two.put_feed(FEED)  # who does not publish is not held up
    async with two.publisher():
        pass


async def test_a_publisher_may_wait_for_another(another: Open) -> None:
    one, two = await another(), await another()
    order = []
    begun = asyncio.Event()

    async def first() -> None:
        async with one.publisher():
            begun.set()
            await asyncio.sleep(0.15)
            order.append("first")

    async def second() -> None:
        await begun.wait()
        async with two.publisher(wait=30):
            order.append("second")

    await asyncio.gather(first(), second())
    assert order == ["first", "second"]


async def test_the_lock_is_free_after_an_error(another: Open) -> None:
    catalogue = await another()
    with pytest.raises(StateError):
        async with catalogue.publisher():
            raise StateError("a step that fails")
    async with catalogue.publisher():
        pass
