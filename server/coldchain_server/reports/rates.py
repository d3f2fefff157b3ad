"""How many reports a sender may have counted in an hour, and how many the endpoints of one network. In memory only.

An address is never kept. Of a report that an endpoint sent, its network (/24 of IPv4, /48 of IPv6) is hashed with a key that is drawn
at random, lives in memory for one hour, and is thrown away with all that was counted by it. What is kept for that hour is one of
65,536 numbers of a table, so memory is bounded whoever asks; networks that fall on one number share what they may send::

    198.51.100.7, 198.51.100.9   ->  BLAKE2b(key, "198.51.100.0/24") mod 65536  ->  two of a hundred
    198.51.101.7                 ->  another number
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from array import array
from collections import Counter
from typing import Final

_PLACES: Final = 1 << 16


class NetworkCap:
    """At most ``most`` reports of one network in an hour; 0: as many as come."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._hour = ""
        self._forget()

    def _forget(self) -> None:
        self._key = secrets.token_bytes(32)
        self._counts = array("I", bytes(4 * _PLACES))

    def take(self, address: str | None, hour: str) -> bool:
        """Counts one report from this address; False when its network has had enough in this hour."""
        if not self._most:
            return True
        if hour != self._hour:
            self._hour = hour
            self._forget()
        place = int.from_bytes(hashlib.blake2b(network_of(address), key=self._key, digest_size=2).digest())
        if self._counts[place] >= self._most:
            return False
        self._counts[place] += 1
        return True


def network_of(address: str | None) -> bytes:
    """The network of an address: /24 of IPv4 (mapped into IPv6 or not), /48 of IPv6; one for whatever has no address."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return b"none"
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.packed[:3] if found.version == 4 else found.packed[:6]


class SenderCap:
    """At most so many reports of each sender in an hour."""

    def __init__(self) -> None:
        self._hour = ""
        self._counts: Counter[str] = Counter()

    def take(self, sender: str, count: int, most: int, hour: str) -> bool:
        """Counts ``count`` reports of a sender; False, and nothing is counted, when that makes more than ``most`` in this hour."""
        if hour != self._hour:
            self._hour = hour
            self._counts.clear()
        if self._counts[sender] + count > most:
            return False
        self._counts[sender] += count
        return True
