"""Canonical JSON: one value, one spelling.

Encoding (agrees byte for byte with the canonical form that TUF implementations sign, and with RFC 8785 for
all documents this project writes, because those hold neither floats nor control characters)::

    {"b": 1, "a": [true, null, "x\\"y"]}   ->   {"a":[true,null,"x\\"y"],"b":1}

Rules: UTF-8; object keys sorted by code point; no spaces; in strings only ``"`` and ``\\`` are escaped; integers
in decimal, absolute value below 2**53; no floats.

Two readers: :func:`read` takes any strict JSON (TUF files: the signed part is re-encoded before signatures are
checked), :func:`read_canonical` takes our own formats and refuses every byte string that is not exactly what
:func:`encode` would write. Both refuse duplicate keys, floats, NaN, deep nesting and lone surrogates.

Source: RFC 8785; OLPC canonical JSON as used by the TUF specification, section 4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn

from coldchain.errors import MalformedError
from coldchain.limits import LIMITS

_TYPE_NAMES = {
    dict: "object",
    list: "array",
    str: "string",
    int: "integer",
    bool: "boolean",
    type(None): "null",
}

MAX_INTEGER = 2**53 - 1

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_plain = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode

JSON = dict[str, "JSON"] | list["JSON"] | str | int | bool | None
Object = dict[str, JSON]


def encode(value: JSON) -> bytes:
    """Canonical bytes of ``value``. Raises MalformedError for what canonical JSON cannot hold."""
    parts: list[str] = []
    _write(value, parts.append, LIMITS.json_depth)
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError as error:
        raise MalformedError("JSON: lone surrogate in a string") from error


def _write(value: object, write: Callable[[str], None], depth: int) -> None:
    if depth == 0:
        raise MalformedError("JSON: nested too deeply")
    if isinstance(value, str):
        write('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"')
    elif value is True:
        write("true")
    elif value is False:
        write("false")
    elif value is None:
        write("null")
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise MalformedError("JSON: integer beyond 2**53")
        write(str(value))
    elif isinstance(value, list | tuple):
        write("[")
        for i, item in enumerate(value):
            if i:
                write(",")
            _write(item, write, depth - 1)
        write("]")
    elif isinstance(value, dict):
        write("{")
        if not all(isinstance(key, str) for key in value):
            raise MalformedError("JSON: object key that is not a string")
        for i, key in enumerate(sorted(value)):
            if i:
                write(",")
            _write(key, write, depth - 1)
            write(":")
            _write(value[key], write, depth - 1)
        write("}")
    else:
        raise MalformedError(f"JSON: a {type(value).__name__} has no canonical form")


def read(data: bytes, what: str) -> JSON:
    """Strict JSON from foreign bytes.

    Args:
        data: the file; its length was bounded by the caller.
        what: the file's name, for messages.

    Raises:
        MalformedError: not UTF-8 JSON, a duplicate key, a float, an integer beyond 2**53, nested too deeply.
    """

    def unique(pairs: list[tuple[str, JSON]]) -> Object:
        out: Object = {}
        for key, value in pairs:
            if key in out:
                raise MalformedError(f"{what}: key {key[:40]!r} stands twice in one object")
            out[key] = value
        return out

    def no_float(text: str) -> NoReturn:
        raise MalformedError(f"{what}: {text[:20]} is not an integer")

    def integer(text: str) -> int:
        if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
            raise MalformedError(f"{what}: integer beyond 2**53")
        return int(text)

    if data.count(b"[") + data.count(b"{") > 1_000_000:
        raise MalformedError(f"{what}: too many objects")
    try:
        value: JSON = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique,
            parse_float=no_float,
            parse_int=integer,
            parse_constant=no_float,
        )
    except UnicodeDecodeError as error:
        raise MalformedError(f"{what}: not UTF-8") from error
    except RecursionError as error:
        raise MalformedError(f"{what}: nested too deeply") from error
    except ValueError as error:
        raise MalformedError(f"{what}: not JSON: {error}") from error
    _check_depth(value, what, LIMITS.json_depth)
    # Only an escape can bring in half a surrogate pair, which no UTF-8 can spell again.
    if b"\\u" in data:
        encode(value)
    return value


def _check_depth(value: JSON, what: str, depth: int) -> None:
    level: list[JSON] = [value]
    while level:
        if depth == 0:
            raise MalformedError(f"{what}: nested too deeply")
        depth -= 1
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]


def read_canonical(data: bytes, what: str) -> Object:
    """One of our own formats: an object in exactly its canonical spelling, without control characters."""
    value = read(data, what)
    if not isinstance(value, dict):
        raise MalformedError(f"{what}: not a JSON object")
    if _CONTROL.search(data):
        raise MalformedError(f"{what}: control character")
    # The standard library's encoder spells all that was read as encode() does, ten times faster, but for what it escapes.
    again = encode(value) if b"\\" in data else _plain(value).encode()
    if again != data:
        raise MalformedError(f"{what}: not in canonical form")
    return value


class Fields:
    """Reads an object's members by name and type; whatever is missing or of another type is MalformedError.

    Example::

        f = Fields(obj, "bundle.json")
        release = f.integer("release", least=1)
        f.done()          # refuses members nobody asked for
    """

    def __init__(self, value: JSON, what: str) -> None:
        if not isinstance(value, dict):
            raise MalformedError(f"{what}: an object was expected, not {_TYPE_NAMES.get(type(value), 'this')}")
        self._value = value
        self._what = what
        self._seen: set[str] = set()

    def _get(self, name: str) -> JSON:
        self._seen.add(name)
        if name not in self._value:
            raise MalformedError(f"{self._what}: {name!r} is missing")
        return self._value[name]

    def has(self, name: str) -> bool:
        """Whether the member is there (asking does not count as reading it)."""
        return name in self._value

    def text(self, name: str, most: int = 4096) -> str:
        """A string of at most ``most`` characters."""
        value = self._get(name)
        if not isinstance(value, str) or len(value) > most:
            raise MalformedError(f"{self._what}: {name!r} is not a short string")
        return value

    def time(self, name: str) -> datetime:
        """A time in UTC, spelled ``2026-11-26T02:00:00Z``."""
        try:
            return datetime.strptime(self.text(name, 32), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError as error:
            raise MalformedError(f"{self._what}: {name!r} is not a time") from error

    def integer(self, name: str, *, least: int = 0, most: int = MAX_INTEGER) -> int:
        """An integer within bounds; true and false are not integers."""
        value = self._get(name)
        if type(value) is not int or not least <= value <= most:
            raise MalformedError(f"{self._what}: {name!r} is not an integer from {least} to {most}")
        return value

    def integer_or_null(self, name: str, *, least: int = 0, most: int = MAX_INTEGER) -> int | None:
        """An integer within bounds, or null."""
        return None if self._get(name) is None else self.integer(name, least=least, most=most)

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise MalformedError(f"{self._what}: {name!r} is not true or false")
        return value

    def sha256(self, name: str) -> str:
        """64 lower-case hexadecimal digits."""
        value = self._get(name)
        if not is_sha256(value):
            raise MalformedError(f"{self._what}: {name!r} is not a SHA-256 in lower-case hexadecimal")
        assert isinstance(value, str)
        return value

    def sha256_or_null(self, name: str) -> str | None:
        """64 lower-case hexadecimal digits, or null."""
        return None if self._get(name) is None else self.sha256(name)

    def items(self, name: str, most: int) -> list[JSON]:
        """A list of at most ``most`` members."""
        value = self._get(name)
        if not isinstance(value, list) or len(value) > most:
            raise MalformedError(f"{self._what}: {name!r} is not a list of at most {most}")
        return value

    def integers(self, name: str, most: int, *, least: int = 0) -> tuple[int, ...]:
        """A list of at most ``most`` different integers from ``least`` on, in growing order."""
        value = self.items(name, most)
        found = tuple(one for one in value if type(one) is int and least <= one <= MAX_INTEGER)
        if len(found) != len(value) or list(found) != sorted(set(found)):
            raise MalformedError(f"{self._what}: {name!r} is not a list of growing integers from {least}")
        return found

    def object(self, name: str, most: int = 4096) -> Object:
        """An object of at most ``most`` members."""
        value = self._get(name)
        if not isinstance(value, dict) or len(value) > most:
            raise MalformedError(f"{self._what}: {name!r} is not an object of at most {most} members")
        return value

    def constant(self, name: str, expected: str) -> None:
        """Exactly this string."""
        if self._get(name) != expected:
            raise MalformedError(f"{self._what}: {name!r} is not {expected!r}")

    def done(self) -> None:
        """Refuses members that nobody read: what is not understood is not accepted."""
        rest = sorted(set(self._value) - self._seen)
        if rest:
            raise MalformedError(f"{self._what}: unknown member {rest[0][:40]!r}")


def is_sha256(value: object) -> bool:
    """Whether ``value`` is 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")
