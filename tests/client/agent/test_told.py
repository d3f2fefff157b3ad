"""What servers ask for is kept by server, on a clock that nobody sets."""

from __future__ import annotations

import time

from coldchain.agent.told import UNSAID_SECONDS, Told, boot_seconds


def test_a_server_is_left_alone_as_long_as_it_said() -> None:
    now = 1000.0
    told = Told(lambda: now)
    urls = ("https://a.example/x", "https://b.example", "/media/stick")
    assert told.least_wait(urls) == told.least_wait(()) == 0.0
    for seconds, kept in ((30.0, 30.0), (None, UNSAID_SECONDS), (0.0, 0.0), (-5.0, 0.0), (1e9, 86_400.0)):
        told.busy("https://a.example/x", seconds)
        assert told.wait("https://a.example/x") == told.wait("https://A.example/other") == kept
        assert told.wait("https://a.example:8443") == told.wait("http://a.example") == 0.0  # other servers
        assert told.least_wait(urls[:1]) == kept
        assert told.least_wait(urls) == 0.0
        assert told.until() == ({"https://a.example": now + kept} if kept else {})
    now += 86_399.0
    assert told.wait(urls[0]) == 1.0
    now += 2.0
    assert told.wait(urls[0]) == 0.0
    assert told.until() == {}


def test_the_clock_goes_on() -> None:
    before = boot_seconds()
    time.sleep(0.01)
    assert boot_seconds() > before >= time.monotonic() - 1 - 86_400 * 3650
