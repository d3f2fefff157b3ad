"""The endpoints: directories made by ``coldchain init``, a policy each, and the processes that run their agents."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coldchain import cli
from tests.system.fleet.processes import Server, Site
from tests.system.fleet.publishing import SHOWN_TO_CUSTOMERS, Publishing

SILENT = "\nsend = false\n"
POLICY = "\n[network]\nwait = true\n"
ENGINE = '\n[[engine]]\nkind = "yara"\n'
CORPUS = '\n[corpora]\nclean = ["{}"]\n'
HURRY = 0.03
"""What the agents of a worker draw at random is multiplied by this."""
WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Endpoint:
    """A customer's machine.

    Attributes:
        name: of its directory.
        path: the directory.
        region: which it follows.
        engine: whether yara-x runs there.
        strict: whether its own corpus holds the file that the bad release's rule finds.
    """

    name: str
    path: Path
    region: str
    engine: bool = False
    strict: bool = False


def make_endpoints(
    folder: Path, publishing: Publishing, counts: dict[str, int], engines: int, strict: dict[str, int]
) -> list[Endpoint]:
    """Endpoints by region, set up by ``coldchain init`` with the region's edge first and the origin behind it.

    Args:
        folder: for their directories.
        publishing: whom they follow.
        counts: how many, by region.
        engines: how many in each region have an engine, beside the strict ones.
        strict: how many have the corpus, and an engine.
    """
    product = folder / "our-product"
    product.mkdir(parents=True)
    (product / "report.txt").write_bytes(SHOWN_TO_CUSTOMERS + b"\n")
    found = []
    for region, count in counts.items():
        for number in range(count):
            name = f"{region}-{number:03}"
            has_corpus = number < strict.get(region, 0)
            one = Endpoint(name, folder / name, region, number < strict.get(region, 0) + engines, has_corpus)
            words = ["init", str(one.path), "--root", str(publishing.root), "--region", region]
            for server in (region, "origin"):
                words += ["--url", publishing.urls[server]]
            with contextlib.redirect_stdout(io.StringIO()) as said:
                assert cli.run(words) == 0, said.getvalue()
            policy = (one.path / "policy.toml").read_text()
            assert SILENT in policy
            policy = (
                policy.replace(SILENT, "\nsend = true\n")
                + POLICY
                + (ENGINE if one.engine else "")
                + (CORPUS.format(product) if one.strict else "")
            )
            (one.path / "policy.toml").write_text(policy)
            found.append(one)
    return found


def worker(site: Site, name: str, endpoints: Sequence[Endpoint]) -> Server:
    """A process with the agents of these endpoints; not started yet."""
    spec = site.folder / f"{name}.json"
    spec.write_text(json.dumps([str(one.path) for one in endpoints]))
    return site.server(name, sys.executable, WORKER, str(HURRY), spec)


def alone(site: Site, endpoint: Endpoint) -> Server:
    """``coldchain agent`` as users start it; not started yet."""
    return site.server(f"agent {endpoint.name}", "coldchain", "agent", endpoint.path, "--json")
