"""Counters: sums by labels, and the text that Prometheus reads."""

from __future__ import annotations

from coldchain_server.web.counters import Counters


def test_sums_and_text() -> None:
    counters = Counters()
    counters.add("responses", kind="timestamp", status="304")
    counters.add("responses", 2, status="200", kind="timestamp")
    counters.add("responses", kind="targets", status="200")
    counters.add("late")
    counters.gauge("connections", lambda: 3)
    assert counters.value("responses") == 4
    assert counters.value("responses", kind="timestamp") == 3
    assert counters.value("responses", status="200") == 3
    assert counters.value("responses", status="404") == 0
    assert counters.prometheus() == (
        "# TYPE coldchain_late_total counter\n"
        "coldchain_late_total 1\n"
        "# TYPE coldchain_responses_total counter\n"
        'coldchain_responses_total{kind="targets",status="200"} 1\n'
        'coldchain_responses_total{kind="timestamp",status="200"} 2\n'
        'coldchain_responses_total{kind="timestamp",status="304"} 1\n'
        "# TYPE coldchain_connections gauge\n"
        "coldchain_connections 3\n"
    )
