"""What the origin counts: plain integers, folded into Prometheus text when somebody asks.

No counter is per client and none holds an address. Worked example of the text::

    # TYPE coldchain_responses_total counter
    coldchain_responses_total{kind="timestamp",status="304"} 41
    # TYPE coldchain_connections gauge
    coldchain_connections 3

Source: Prometheus exposition format 0.0.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[tuple[str, str], ...]


class Counters:
    """Counters by name and labels, and gauges that are asked when the text is made."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Labels]] = Counter()
        self._gauges: dict[str, Callable[[], float]] = {}

    def add(self, name: str, amount: int = 1, **labels: str) -> None:
        """Adds to ``coldchain_<name>_total``. Labels must come from a fixed few values, never from a request."""
        self._counts[name, tuple(sorted(labels.items()))] += amount

    def gauge(self, name: str, value: Callable[[], float]) -> None:
        """Names a figure that is read at the time of asking."""
        self._gauges[name] = value

    def value(self, name: str, **labels: str) -> int:
        """The sum of the counters of this name that carry these labels."""
        wanted = set(labels.items())
        return sum(count for (n, has), count in self._counts.items() if n == name and wanted <= set(has))

    def prometheus(self) -> str:
        """All of them as text, in the order of their names."""
        lines: list[str] = []
        last = ""
        for (name, labels), count in sorted(self._counts.items()):
            if name != last:
                lines.append(f"# TYPE coldchain_{name}_total counter")
                last = name
            lines.append(f"coldchain_{name}_total{_braces(dict(labels))} {count}")
        for name, value in sorted(self._gauges.items()):
            lines += [f"# TYPE coldchain_{name} gauge", f"coldchain_{name} {value():g}"]
        return "\n".join(lines) + "\n"


def _braces(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""
