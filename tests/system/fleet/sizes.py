"""How large the fleets of the tests are, and in which regions."""

from __future__ import annotations

from tests.system.fleet.publishing import Place
from tests.system.fleet.story import Size

PLACES = (
    Place("us", "United States", 1),
    Place("jp", "Japan", 1, leaves_out="Win.Trojan.Agent-10003-0"),
    Place("row", "rest of the world", 2),
)
_STAGES = """\
[stable]
emergency = {{ seconds = {short} }}
stages = [
    {{ wave = 1, share = 20, seconds = {first} }},
    {{ wave = 1, share = 100, seconds = {whole} }},
    {{ wave = 2, share = 50, seconds = {short} }},
    {{ wave = 2, share = 100 }},
]
"""
WHOLE = Size(
    counts={"us": 80, "jp": 70, "row": 50},
    engines=2,
    strict={"us": 4},  # 2 % of all
    workers=5,
    alone=1,
    stages=_STAGES.format(first=10, whole=45, short=3),
    kills=True,
)
"""Two hundred endpoints, and everything is killed once."""
