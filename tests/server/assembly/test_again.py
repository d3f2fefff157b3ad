"""What a manifest says is all that is needed to assemble its release again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coldchain.bundle.manifest import Manifest
from coldchain.errors import LintError, StorageError
from coldchain_server.assembly.again import assemble_again, region_facts, regions_of
from coldchain_server.assembly.regions import GLOBAL, load_regions
from coldchain_server.home import Home
from coldchain_server.storage.content import ContentStore
from tests.server import origins
from tests.server.memory import memory_folder
from tests.server.rebuild import worlds


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with memory_folder() as folder:
        yield asyncio.run(worlds.make(folder / "origin"))


@pytest.fixture
def manifest(home: Home) -> Manifest:
    return origins.read(home, "us").manifest


def test_regions_keep_their_policies_and_nothing_else_counts(home: Home, manifest: Manifest) -> None:
    declared, told = load_regions((home.directory / "regions.toml").read_text()), regions_of(manifest)
    assert {name: one.policy for name, one in told.regions.items()} == {
        name: one.policy for name, one in declared.regions.items()
    }
    for kind in ("feed", "signature"):
        assert told.regional(kind) == declared.regional(kind)
    one, other = (assemble_again(manifest, regions, home.content) for regions in (declared, told))
    assert one == other
    assert one.feeds == manifest.feeds


def test_a_region_alone_is_what_it_is_among_all(home: Home, manifest: Manifest) -> None:
    """Also where another region adds what is then part of none of the others."""
    every = assemble_again(manifest, regions_of(manifest), home.content)
    for name in worlds.NAMES:
        alone = assemble_again(manifest, regions_of(manifest), home.content, [name])
        assert set(alone.bundles) == {GLOBAL, name}
        assert all(bundle == every.bundles[one] for one, bundle in alone.bundles.items())
        assert region_facts(alone.bundles[name]).facts == manifest.regions[name].facts


def test_bad_lines_are_left_out_only_where_the_manifest_says_so(home: Home, manifest: Manifest) -> None:
    strict = replace(manifest, feeds=tuple(replace(feed, skipped={}) for feed in manifest.feeds))
    with pytest.raises(LintError):
        assemble_again(strict, regions_of(strict), home.content)


def test_content_that_is_not_there_is_told(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        assemble_again(manifest, regions_of(manifest), ContentStore(tmp_path))
