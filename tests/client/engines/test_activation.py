"""Activation with real clamd: what it runs is what was proved, through updates, refusals, its own death, and ours."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from coldchain.engines import activation
from coldchain.engines.clamav import ClamAV
from coldchain.engines.endpoint import EndpointEngines
from coldchain.engines.interface import Corpora, LoadReport, LoadTest
from coldchain.engines.settings import EngineSettings
from coldchain.engines.view import View
from coldchain.errors import EngineDownError, EngineError
from coldchain.install.versions import Version
from tests.client.agent.publisher import hashes, run
from tests.client.engines.daemon import EICAR, EICAR_NAME, Daemon, daemon, needs_clamd, scanning
from tests.client.engines.endpoints import (
    BEST,
    BETTER,
    GOOD,
    Endpoint,
    canary,
    clamd_endpoint,
    clamd_engine,
    make_endpoint,
)
from tests.client.engines.test_child import ended

pytestmark = needs_clamd


def runs(made: Daemon, release: int, but: int) -> bool:
    """What clamd itself says: one canary is found, the other is not, and EICAR is."""
    (name, data), (_, other) = canary(release), canary(but)
    client = made.client
    return client.scan(data) == name and client.scan(other) is None and client.scan(EICAR) == EICAR_NAME


def test_a_first_set_is_there_before_clamd_and_proved_when_it_runs(tmp_path: Path) -> None:
    with daemon() as clamd:
        endpoint = make_endpoint(tmp_path, clamd_engine(clamd))
        done = endpoint.update()
        assert done.action == "installed"
        assert isinstance(done.error, EngineDownError)
        assert "for it to start with" in done.error.what
        assert endpoint.linked() == 1
        assert endpoint.memory().proved == ""
        assert endpoint.memory().problem == done.error.what

        clamd.start(endpoint.view())
        done = endpoint.update()
        assert done.error is None
        assert done.engines[0].release == 1
        assert endpoint.memory().problem == ""


@pytest.mark.parametrize(
    "options", [(), ("ConcurrentDatabaseReload no", "IdleTimeout 1")], ids=["concurrent", "waiting"]
)
def test_an_update_while_scans_go_on(options: tuple[str, ...], tmp_path: Path) -> None:
    """Without concurrent reloads clamd lets scans wait until its idle threads are gone, 30 s if not set otherwise."""
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd, *options)
        assert runs(clamd, 1, 2)
        endpoint.publish(2, BETTER)
        with scanning(clamd) as scans:
            done = endpoint.update()
        assert scans.wrong == []
        assert scans.count > 10
        assert (done.error, done.engines[0].action, done.engines[0].release) == (None, "activated", 2)
        assert runs(clamd, 2, 1)
        assert endpoint.linked() == 2
        assert [one.name for one in endpoint.view().parent.joinpath("sets").iterdir()] == [endpoint.memory().proved]
        assert sorted(one.name for one in endpoint.view().iterdir()) == [
            "coldchain-canary.ndb",
            "daily.hsb",
            "test.ndb",
        ]

        done = endpoint.update()
        assert (done.action, done.engines[0].action, done.error) == ("current", "current", None)


FUTURE = b"Acme.Test.Future-1;Engine:250-255,Target:0;0;616263646566\n"
TRAPS: dict[str, dict[str, bytes]] = {
    "a line that is no signature": {"bad.hdb": b"garbage:not:a:valid:line\n"},
    "a signature for an engine of the future": {"bad.ldb": FUTURE},
    "a blank line": {"bad.hdb": b"\n" + hashes(1)},
    "a byte order mark": {"bad.hsb": b"\xef\xbb\xbf" + hashes(1)},
    "an empty file": {"bad.hdb": b""},
    "a pattern of one byte": {"bad.ndb": b"Acme.Test.Short:0:*:61\n"},
    "any size without its level": {"bad.hsb": hashes(1).replace(b":1001:", b":*:")},
    "a pattern of every program": {"bad.ndb": b"Acme.Test.Elf:6:0:7f454c46\n"},
    "a broken YARA file among ClamAV's": {"bad.YARA": b"rule A { condition: nosuch }\n"},
    "a database that the engine passes over": {"bad.txt": hashes(1)},
}
"""What a loader drops without a word, refuses whole, or finds everywhere; no gate lets these through."""
OF_THE_LOADER = (
    "a blank line",
    "a byte order mark",
    "an empty file",
    "a pattern of one byte",
    "any size without its level",
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Endpoint]]:
    """Clamd with release 1, for tests that end with release 1 running."""
    with daemon() as clamd:
        yield clamd, clamd_endpoint(tmp_path_factory.mktemp("shared"), clamd, seconds=2)


@pytest.mark.parametrize("trap", TRAPS)
def test_no_trap_gets_past_the_load_test(trap: str, shared: tuple[Daemon, Endpoint]) -> None:
    clamd, endpoint = shared
    number = 100 + list(TRAPS).index(trap)
    reloads = clamd.log.count("Reading databases")
    with scanning(clamd) as scans:
        (done,) = endpoint.force(number, GOOD | TRAPS[trap])
    assert scans.wrong == []
    assert type(done.error) is EngineError
    assert done.report is not None
    assert done.report.problem in done.error.what
    assert (endpoint.linked(), done.release) == (1, 1)
    assert endpoint.memory().refused[-1].release == number
    assert clamd.log.count("Reading databases") == reloads
    assert runs(clamd, 1, number)


def test_after_refused_releases_the_next_good_one_is_taken(tmp_path: Path) -> None:
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd)
        for number, trap in enumerate(("a line that is no signature", "a pattern of every program"), 2):
            endpoint.publish(number, GOOD | TRAPS[trap])
            done = endpoint.update()
            assert (done.action, done.release) == ("updated", number)
            assert type(done.error) is EngineError
            assert runs(clamd, 1, number)
        endpoint.publish(4, BETTER)
        assert endpoint.update().error is None
        assert runs(clamd, 4, 1)


@pytest.mark.parametrize("state", ["refused", "dead"])
def test_a_withdrawal_is_taken_at_the_next_poll_by_an_endpoint_whose_engine_the_release_broke(
    state: str, tmp_path: Path
) -> None:
    """Nobody's share is reached yet, and the engine runs no set of the installed release."""
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd)
        endpoint.publish(2, GOOD | TRAPS["a line that is no signature"] if state == "refused" else BETTER)
        if state == "dead":
            clamd.stop()
        done = endpoint.update()
        assert (done.release, type(done.error)) == (2, EngineError if state == "refused" else EngineDownError)
        endpoint.publish(3, GOOD, share=0, withdrawn=[2])
        if state == "dead":
            done = endpoint.update()
            assert (done.release, type(done.error)) == (3, EngineDownError)
            clamd.start(endpoint.view())
        done = endpoint.update()
        assert (done.release, done.error, endpoint.linked()) == (3, None, 3)
        assert runs(clamd, 3, 2)


@pytest.mark.parametrize("trap", OF_THE_LOADER)
def test_no_trap_replaces_the_running_set_even_past_the_load_test(
    trap: str, shared: tuple[Daemon, Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line: clamd keeps what it has, the missing canary shows it, and the view goes back."""

    def blind(_engine: ClamAV, _test: LoadTest) -> LoadReport:
        return LoadReport("clamav", "no test at all", canary=True)

    clamd, endpoint = shared
    number = 200 + OF_THE_LOADER.index(trap)
    reloads = clamd.log.count("Reading databases")
    monkeypatch.setattr(ClamAV, "load_test", blind)
    with scanning(clamd) as scans:
        (done,) = endpoint.force(number, GOOD | TRAPS[trap])
    assert scans.wrong == []
    assert type(done.error) is EngineError
    assert "release 1 runs again" in done.error.what
    assert (endpoint.linked(), done.release) == (1, 1)
    assert endpoint.memory().proved.startswith("1-")
    assert endpoint.memory().refused[-1].release == number
    assert "keeping the previous instance" in clamd.log
    assert runs(clamd, 1, number)
    while clamd.log.count("Reading databases") < reloads + 2:  # the bad set, and the good one after it
        time.sleep(0.02)
    assert runs(clamd, 1, number)


def test_a_refused_release_is_tried_again_only_when_a_person_asks(tmp_path: Path) -> None:
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd)
        corpus = tmp_path / "corpus"
        corpus.write_bytes(b"our own product, which release 2 finds something in\n")
        endpoint.engines = EngineSettings((replace(clamd_engine(clamd), corpora=Corpora(clean=(corpus,))),))
        endpoint.publish(2, BETTER | {"bad.ndb": b"Acme.Test.Product:0:*:" + b"our own product".hex().encode() + b"\n"})
        error = endpoint.update().error
        assert error is not None
        assert str(corpus) in error.what
        corpus.write_bytes(b"another product\n")
        assert type(endpoint.update().error) is EngineError
        assert runs(clamd, 1, 2)
        assert endpoint.update(repair=True).error is None
        assert runs(clamd, 2, 1)


def test_nothing_is_switched_under_a_clamd_that_does_not_answer(tmp_path: Path) -> None:
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd)
        clamd.stop()
        endpoint.publish(2, BETTER)
        done = endpoint.update()
        assert (done.action, done.release) == ("updated", 2)
        assert isinstance(done.error, EngineDownError)
        assert endpoint.linked() == 1
        assert endpoint.memory().refused == ()
        clamd.start(endpoint.view())
        done = endpoint.update()
        assert (done.action, done.error) == ("current", None)
        assert runs(clamd, 2, 1)


def test_a_clamd_that_ends_before_its_turn_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first question of a run and the activation lies a download, which may take hours."""
    settle = EndpointEngines.settle
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd)
        endpoint.publish(2, BETTER)

        def then_it_ends(engines: EndpointEngines, *, forgive: bool = False) -> None:
            settle(engines, forgive=forgive)
            clamd.stop()

        def switched(_view: View, to: Version) -> None:
            raise AssertionError(f"switched to {to}")

        monkeypatch.setattr(EndpointEngines, "settle", then_it_ends)
        monkeypatch.setattr(View, "switch", switched)
        assert isinstance(endpoint.update().error, EngineDownError)


def test_an_order_to_reload_that_is_lost_is_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that meets a reload under way may find that it read the old set."""
    orders: list[int] = []
    reload = ClamAV.reload

    def first_is_lost(engine: ClamAV) -> None:
        orders.append(1)
        if len(orders) > 1:
            reload(engine)

    monkeypatch.setattr(activation, "_RELOAD_AGAIN", 0.2)
    monkeypatch.setattr(ClamAV, "reload", first_is_lost)
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd, "SelfCheck 0")
        endpoint.publish(2, BETTER)
        assert endpoint.update().error is None
        assert runs(clamd, 2, 1)
    assert len(orders) > 1


async def test_whoever_is_cancelled_holds_the_lock_until_the_engine_is_left_alone(tmp_path: Path) -> None:
    with daemon() as clamd:
        endpoint = await asyncio.to_thread(clamd_endpoint, tmp_path, clamd)
        endpoint.publish(2, BETTER)
        slow, pid = slow_clamscan(tmp_path)
        engines = EngineSettings((replace(clamd_engine(clamd), program=slow),))
        task = asyncio.ensure_future(run(endpoint.directory, str(endpoint.mirror), engines=engines))
        while not pid.exists() or not pid.read_text():
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended(int(pid.read_text()), wait=False)


def test_a_clamd_that_is_pointed_elsewhere_is_told_and_nothing_is_held_against_the_release(tmp_path: Path) -> None:
    with daemon() as clamd:
        endpoint = make_endpoint(tmp_path, clamd_engine(clamd, 1))
        endpoint.update()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "a.hsb").write_bytes(hashes(1))
        clamd.start(elsewhere)
        error = endpoint.update().error
        assert isinstance(error, EngineDownError)
        assert "DatabaseDirectory" in error.todo
        assert endpoint.memory().refused == ()
        clamd.stop()
        clamd.start(endpoint.view())
        assert endpoint.update().error is None


def test_a_clamd_that_takes_no_reload_keeps_its_set(tmp_path: Path) -> None:
    """Not the release's fault either. 1.4 has no switch for it, so the answer is put into clamd's mouth."""
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd, seconds=1)
        endpoint.publish(2, BETTER)

        def no_order(_engine: ClamAV) -> None:
            raise EngineDownError("clamd takes no RELOAD: 'COMMAND UNAVAILABLE'")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ClamAV, "reload", no_order)
            error = endpoint.update().error
        assert isinstance(error, EngineDownError)
        assert endpoint.linked() == 1
        assert endpoint.memory().refused == ()
        endpoint.engines = EngineSettings((clamd_engine(clamd),))
        assert endpoint.update().error is None
        assert runs(clamd, 2, 1)


def test_what_clamd_runs_is_asked_for_even_when_nothing_is_new(tmp_path: Path) -> None:
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd)
        endpoint.publish(2, BETTER)
        endpoint.update()
        view = endpoint.view()
        # somebody lets clamd load something else, and sets things right again
        other = tmp_path / "other"
        other.mkdir()
        (other / "a.hsb").write_bytes(hashes(1))
        clamd.stop()
        clamd.start(other)
        endpoint.engines = EngineSettings((clamd_engine(clamd, 1),))
        error = endpoint.update().error
        assert isinstance(error, EngineDownError)
        assert "does not run release 2" in error.what
        assert endpoint.memory().problem == error.what
        clamd.stop()
        clamd.start(view)
        assert endpoint.update().error is None


def test_lost_memory_costs_a_proof_and_nothing_else(tmp_path: Path) -> None:
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd)
        endpoint.publish(2, BETTER)
        endpoint.update()
        (endpoint.directory.path / "state.json").unlink()
        done = endpoint.update()
        assert (done.error, done.engines[0].release) == (None, 2)
        assert endpoint.memory().proved.startswith("2-")


def test_a_repaired_version_goes_to_the_engine_again(tmp_path: Path) -> None:
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd)
        endpoint.publish(2, BEST)
        endpoint.update()
        damaged = endpoint.directory.current.resolve() / "daily.hsb"
        damaged.chmod(0o644)
        damaged.write_bytes(b"nonsense")
        assert (endpoint.view() / "daily.hsb").read_bytes() == b"nonsense"  # the same file
        reloads = clamd.log.count("Reading databases")
        done = endpoint.update()
        assert (done.action, done.error) == ("repaired", None)
        assert clamd.log.count("Reading databases") == reloads + 1
        assert (endpoint.view() / "daily.hsb").read_bytes() == BEST["daily.hsb"]
        assert endpoint.memory().proved.endswith(".2")
        assert runs(clamd, 2, 1)


def slow_clamscan(path: Path) -> tuple[Path, Path]:
    """One that takes a minute, and the file that its process id is in once it has begun."""
    program, pid = path / "slow", path / "pid"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec clamscan --version\necho $$ > {pid}\nexec sleep 60\n')
    program.chmod(0o755)
    return program, pid


def test_whoever_interrupts_a_load_test_leaves_no_child_and_no_judgement(tmp_path: Path) -> None:
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd)
        endpoint.publish(2, BETTER)
        slow, pid = slow_clamscan(tmp_path)
        text = f'[[engine]]\nkind = "clamav"\nsocket = "{clamd.socket}"\nprogram = "{slow}"\n'
        (endpoint.directory.path / "policy.toml").write_text(text, encoding="utf-8")
        words = ["update", str(endpoint.directory.path), "--url", str(endpoint.mirror)]
        # as a shell starts it for a person: what a background job inherits may ignore the interrupt
        program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from coldchain.cli import main; main()"
        client = subprocess.Popen([sys.executable, "-c", program, *words], stderr=subprocess.PIPE)
        while not pid.exists() or not pid.read_text():
            assert client.poll() is None
            time.sleep(0.01)
        client.send_signal(signal.SIGINT)
        _, said = client.communicate(timeout=30)
        assert (client.returncode, b"interrupted" in said) == (130, True)
        assert ended(int(pid.read_text()))
        assert endpoint.linked() == 1
        assert endpoint.memory().refused == ()
        assert endpoint.update().error is None
        assert runs(clamd, 2, 1)


def test_a_view_on_another_file_system_holds_copies(tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system here")
    with tempfile.TemporaryDirectory(dir=elsewhere) as name, daemon() as clamd:
        endpoint = make_endpoint(tmp_path, replace(clamd_engine(clamd), view=Path(name, "view")))
        endpoint.update()
        clamd.start(Path(name, "view", "current"))
        assert endpoint.update().error is None
        endpoint.publish(2, BETTER)
        assert endpoint.update().error is None
        assert runs(clamd, 2, 1)
        for one in Path(name, "view", "current").iterdir():
            assert one.read_bytes() == (endpoint.directory.current / one.name).read_bytes()


def test_the_canary_from_before_must_be_gone(shared: tuple[Daemon, Endpoint]) -> None:
    """A set that would let an engine look as if it ran either release is not taken for the new one."""
    clamd, endpoint = shared
    name, data = canary(1)
    (done,) = endpoint.force(300, GOOD | {"old.ndb": f"{name}:0:*:{data.hex()}\n".encode()})
    assert done.report is not None
    assert done.report.problem == ""
    assert type(done.error) is EngineError
    assert (endpoint.linked(), done.release) == (1, 1)
    assert runs(clamd, 1, 300)


def test_an_engine_never_goes_back_to_a_lower_release(tmp_path: Path) -> None:
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd)
        endpoint.publish(3, BETTER)
        assert endpoint.update().error is None
        (done,) = endpoint.force(2, BEST)
        assert (done.action, done.release, endpoint.linked()) == ("current", 3, 3)
        assert runs(clamd, 3, 2)


def test_a_slow_reload_of_the_bad_set_is_followed_by_one_of_the_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clamd loads release 2, and that is not seen in time: after the return it runs release 1, for another order came."""
    with daemon() as clamd:
        endpoint = clamd_endpoint(tmp_path, clamd)
        reload, detects = ClamAV.reload, ClamAV.detects
        orders: list[int] = []

        def late(engine: ClamAV) -> None:
            reload(engine)
            orders.append(1)

        def asked(engine: ClamAV, samples: Sequence[bytes], view: Path, work: Path) -> list[frozenset[str]]:
            if orders == [1]:
                name, data = canary(1)
                return [frozenset([name] if one == data else []) for one in samples]
            return detects(engine, samples, view, work)

        monkeypatch.setattr(ClamAV, "reload", late)
        monkeypatch.setattr(ClamAV, "detects", asked)
        endpoint.engines = EngineSettings((clamd_engine(clamd, 2),))
        endpoint.publish(2, BETTER)
        error = endpoint.update().error
        assert type(error) is EngineError
        assert len(orders) > 1
        assert endpoint.linked() == 1
        assert endpoint.memory().refused[-1].release == 2
        assert runs(clamd, 1, 2)
