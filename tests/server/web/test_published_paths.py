"""Request targets are judged as they came: five rooms, plain names, nothing decoded, nothing hidden."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain_server.web.published_paths import ASK_FIRST, FOREVER, published_path

HASH = "5c" * 32
OCTETS = "application/octet-stream"
JSON = "application/json"

KNOWN = [
    ("/metadata/timestamp.json", ASK_FIRST, JSON, None),
    ("/metadata/1.root.json", FOREVER, JSON, None),
    ("/metadata/7.us.json", FOREVER, JSON, None),
    ("/metadata/us.json", ASK_FIRST, JSON, None),
    (f"/targets/us/stable/{HASH}.full.ccd", FOREVER, OCTETS, HASH),
    (f"/targets/us/stable/{HASH}.from-41.ccd", FOREVER, OCTETS, HASH),
    (f"/targets/us/stable/{HASH}.evidence.zst", FOREVER, OCTETS, HASH),
    (f"/targets/us/stable/{HASH[:-1]}.full.ccd", ASK_FIRST, OCTETS, None),
    (f"/targets/us/stable/{HASH.upper()}.full.ccd", ASK_FIRST, OCTETS, None),
    (f"/targets/us/stable/{HASH}0", ASK_FIRST, OCTETS, None),
    (f"/targets/{HASH}/full.ccd", ASK_FIRST, OCTETS, None),
    (f"/snapshots/{HASH}", FOREVER, OCTETS, HASH),
    (f"/attestations/{HASH}/{HASH}.dsse.json", ASK_FIRST, JSON, None),
    ("/packs/us/stable/42.from-41.pack", FOREVER, OCTETS, None),
    ("/packs/us/stable/latest.pack", ASK_FIRST, OCTETS, None),
    ("/log/checkpoint", ASK_FIRST, "text/plain; charset=utf-8", None),
    ("/log/tile/0/x001/067", FOREVER, OCTETS, None),
    ("/log/tiles", ASK_FIRST, OCTETS, None),
]


@pytest.mark.parametrize(("target", "cached", "content_type", "sha256"), KNOWN)
def test_what_is_published(target: str, cached: str, content_type: str, sha256: str | None) -> None:
    found = published_path(target)
    assert found is not None
    assert (found.path, found.cache_control, found.content_type, found.sha256) == (
        target[1:], cached, content_type, sha256,
    )  # fmt: skip


PLACES = ["metadata/{}", "{}/timestamp.json", "metadata/{}/timestamp.json", "targets/us/{}", "/{}", "{}"]
TRICKS = [
    "", ".", "..", "...", ".hidden", ".timestamp.json.123", "%2e%2e", "%2E", ".%2e", "%2f", "%00", "\0", "a\0b", "a b", "a\tb",
    "a\\b", "..\\..", "a%5cb", "a?b", "a#b", "a;b", "a:b", "~root", "a@b", "é", "\u2025", "\uff0e\uff0e", "\u2215", "a\r\nb", "a\n",
    "*", "a,b", "a&b", "$HOME", "x" * 129,
]  # fmt: skip


@pytest.mark.parametrize(("place", "trick"), list(product(PLACES, TRICKS)))
def test_no_trick_names_a_file(place: str, trick: str) -> None:
    if trick and not place.startswith("/"):
        assert published_path("/" + place.format(trick)) is None
    assert published_path(place.format(trick)) is None  # without its slash, or with two


@pytest.mark.parametrize(
    "target",
    [
        "/", "//", "", "/metadata", "/metadata/", "//metadata/timestamp.json", "/metadata//timestamp.json",
        "/metadata/timestamp.json/", "/METADATA/timestamp.json", "/keys/root-1.json", "/catalogue.sqlite", "/drafts/stable-1/x",
        "/content/aa/aa", "/metadata/timestamp.json?x=1", "http://x/metadata/timestamp.json", "x:80", "*",
        "/metadata" + "/a" * 10, "/metadata/" + "/".join(["a" * 100] * 6),
    ],
)  # fmt: skip
def test_nothing_else_exists(target: str) -> None:
    assert published_path(target) is None


@given(st.text(st.sampled_from("/.%2eaé\\\0 -_Z~") | st.characters(), max_size=40), st.booleans())
def test_whatever_is_asked_the_path_stays_in_the_tree(text: str, in_room: bool) -> None:
    found = published_path(("/metadata/" if in_room else "") + text)
    if found is not None:
        assert re.fullmatch(r"[a-z]+(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+", found.path)
