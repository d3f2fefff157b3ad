"""The canary: one harmless signature per engine and release, which proves what an engine really runs.

It follows from product, region, channel and release alone, so a delta spends no bytes on it, the assembler adds it
and the client knows what to scan.
Worked example, product ``coldchain``, region ``us``, channel ``stable``, release 42::

    name     Coldchain.Canary.us-stable-42
    string   COLDCHAIN-CANARY:coldchain:us:stable:42:<first 32 hex digits of sha256("coldchain:us:stable:42")>:END
    clamav   section coldchain-canary.ndb, one line:  Coldchain.Canary.us-stable-42:0:*:<hex of the string>
    yara     section coldchain-canary.yar, one rule:
             rule Coldchain_Canary_us_stable_42 { strings: $a = { <hex of the string> } condition: $a }

The string contains nothing a scanned file would hold by chance (32 hex digits bound to the release). Neither section holds it as it
is: an engine that scans the disk it protects must not find its own database.
"""

from __future__ import annotations

import hashlib

from coldchain.bundle.description import Engine

CLAMAV_SECTION = "coldchain-canary.ndb"
YARA_SECTION = "coldchain-canary.yar"


def canary_name(region: str, channel: str, release: int) -> str:
    """The detection name an engine reports, e.g. ``Coldchain.Canary.us-stable-42``."""
    return f"Coldchain.Canary.{region}-{channel}-{release}"


def canary_string(product: str, region: str, channel: str, release: int) -> bytes:
    """The harmless bytes that exactly this release's canary detects."""
    identity = f"{product}:{region}:{channel}:{release}"
    mark = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return f"COLDCHAIN-CANARY:{identity}:{mark}:END".encode()


def canary_section(engine: Engine, product: str, region: str, channel: str, release: int) -> tuple[str, bytes] | None:
    """Name and content of the canary's section for ``engine``; None for an engine that has none (lists)."""
    string = canary_string(product, region, channel, release)
    name = canary_name(region, channel, release)
    if engine == "clamav":
        return CLAMAV_SECTION, f"{name}:0:*:{string.hex()}\n".encode()
    if engine == "yara":
        rule = name.replace(".", "_").replace("-", "_")
        return YARA_SECTION, f"rule {rule} {{ strings: $a = {{ {string.hex()} }} condition: $a }}\n".encode()
    return None
