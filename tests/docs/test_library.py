"""docs/library.md: its examples run, in order, and print what the page shows; the library says what it says it does."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import shutil
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest

from coldchain import api, cli
from coldchain.agent.make_pack import Wanted, make_pack
from coldchain.api import verify_directory, verify_evidence, verify_pack, verify_receipt
from coldchain.errors import EvidenceError, MalformedError, NotInstalledError, UsageError
from tests.client.agent.publisher import FIRST, SECOND, Publisher, run
from tests.client.tlog.memory_log import MemoryLog

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the page speaks of."""
    path = tmp_path_factory.mktemp("library")
    publisher = Publisher(path / "publisher", regions=("us",), log=MemoryLog())
    publisher.publish(1, FIRST)
    directory = publisher.client(path / "endpoint", str(path / "published"))
    asyncio.run(run(directory, str(publisher.write(path / "published"))))
    publisher.publish(2, SECOND)
    publisher.write(path / "published")
    asyncio.run(run(directory))
    (path / "root.json").write_bytes(publisher.repository.pinned)
    source = str(path / "published")
    asyncio.run(make_pack(source, publisher.repository.pinned, path / "us.pack", Wanted("us"), publisher.now))
    assert cli.run(["receipt", str(directory.path), "-o", str(path / "receipt.json")]) == 0
    return path


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(template, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_the_examples_print_what_the_page_shows(place: Path) -> None:
    blocks = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, object] = {"Path": Path}
    ran = 0
    for (kind, text), (after, shown) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind != "python":
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(text, f"docs/library.md, example {ran + 1}", "exec"), scope)
        assert out.getvalue() == (shown if not after else ""), text
        ran += 1
    assert ran >= 7


def test_every_module_and_name_it_speaks_of_is_there() -> None:
    for name in re.findall(r"`(coldchain(?:\.[a-z_]+)+)`", PAGE):
        import_module(name)
    for row in re.findall(r"^\| `(coldchain[a-z_.]*)`.*$", PAGE, re.MULTILINE):
        line = next(line for line in PAGE.split("\n") if line.startswith(f"| `{row}`"))
        for function in re.findall(r"\(`([a-z_]+)`\)", line):
            assert hasattr(import_module(row), function), function
    for name in api.__all__:
        assert hasattr(api, name)
    assert (ROOT / "client" / "coldchain" / "py.typed").exists()


def test_what_is_not_there_is_an_answer_and_what_cannot_be_meant_an_error(place: Path) -> None:
    root = (place / "root.json").read_bytes()
    assert isinstance(verify_directory(place / "nowhere").error, NotInstalledError)
    assert isinstance(verify_pack(place / "root.json", root=root).error, MalformedError)
    assert not verify_pack(place / "us.pack", root=root, region="jp").ok
    assert not verify_pack(place / "us.pack", root=b"{}").ok
    assert isinstance(verify_receipt(b"{}").error, EvidenceError)
    with pytest.raises(UsageError):
        verify_receipt(place / "nowhere")
    with pytest.raises(UsageError, match="time zone"):
        verify_directory("endpoint", now=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(NotInstalledError):
        verify_directory(place / "nowhere").require()
    with pytest.raises(EvidenceError):
        verify_receipt(b"{}").require()


def test_evidence_without_any_of_its_files_is_refused(place: Path) -> None:
    root = (place / "root.json").read_bytes()
    (kept,) = [path for path in (place / "endpoint" / "signed").iterdir() if path.name.startswith("2-")]
    files = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert verify_evidence(files, root=root, region="us").ok
    for name in ("targets.json", "us.json", "manifest.json", "manifest.tlog-proof"):
        for bad in ({}, {name: files[name][:-2]}):
            found = verify_evidence(
                {one: data for one, data in files.items() if one != name} | bad, root=root, region="us"
            )
            assert not found.ok
            assert [check.ok for check in found.checks] == [True] * (len(found.checks) - 1) + [False]
    assert not verify_evidence(files, root=root, region="jp").ok
    assert not verify_evidence(files, root=root, region="us", channel="early").ok
    assert not verify_evidence(files, root=root, region="us", product="other").ok
    early = datetime(2020, 1, 1, tzinfo=UTC)
    assert "clock" in (verify_evidence(files, root=root, region="us", now=early).error or EvidenceError("")).todo
    log = MemoryLog(origin="log.example/other")
    assert not verify_evidence(files, root=root, region="us", policy=log.policy.encode()).ok
