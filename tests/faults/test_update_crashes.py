"""kill -9, or an errno, at every C call of an update that touches the system: the old set or the new one, and the next poll mends all.

The mirror is a directory, so that every call is one of the disk's. After each point: what an engine would load is one whole signed
set, the one from before or the new one; an offline verification of it passes; the next update ends on the newest release; nothing
is left over.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from coldchain.agent.update import utc_now
from coldchain.errors import EvidenceError, RollbackError
from coldchain.install import versions
from coldchain.install.audit import audit
from coldchain.install.directory import ClientDirectory
from coldchain.install.durable import Folder
from coldchain.install.versions import Version
from coldchain.tlog.checkpoint import parse_checkpoint
from coldchain.tlog.note import parse_note
from tests.client.agent.publisher import FIRST, SECOND, Publisher, run
from tests.client.agent.world import contents, left_over
from tests.client.tlog.memory_log import MemoryLog
from tests.client.tuf.repository import digest, sign, signer
from tests.faults import crashpoints
from tests.memory_disk import tmp_path

__all__ = ["tmp_path"]

ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE)
QUICK = 12
# Reading can fail too; kills there are the same as at the next write.
READS = crashpoints.FILE_CALLS | {"read", "readinto", "readall", "listdir", "scandir", "stat", "fstat", "readlink"}


@dataclass
class Scene:
    """An endpoint before an update, what the mirror offers it, and what it may hold afterwards."""

    template: Path
    mirror: Path
    before: dict[str, bytes]
    after: dict[str, bytes]
    refused: type[Exception] | None = None
    good: Path | None = None

    def endpoint(self, path: Path) -> ClientDirectory:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.template, path, symlinks=True)
        return ClientDirectory(path)

    def update(self, directory: ClientDirectory) -> None:
        asyncio.run(run(directory, str(self.mirror)))

    def next_poll(self, directory: ClientDirectory) -> None:
        asyncio.run(run(directory, str(self.good or self.mirror)))


def first_install(path: Path) -> Scene:
    publisher = Publisher(path / "publisher", regions=("us",))
    template = publisher.client(path / "template", "http://placeholder.invalid").path
    publisher.publish(1, FIRST)
    return Scene(template, publisher.write(path / "mirror"), {}, FIRST)


def installed(path: Path) -> tuple[Publisher, ClientDirectory]:
    publisher = Publisher(path / "publisher", regions=("us",))
    publisher.publish(1, FIRST)
    directory = publisher.client(path / "template", "http://placeholder.invalid")
    asyncio.run(run(directory, str(publisher.write(path / "before"))))
    return publisher, directory


def delta(path: Path) -> Scene:
    publisher, directory = installed(path)
    publisher.publish(2, SECOND)
    return Scene(directory.path, publisher.write(path / "mirror"), FIRST, SECOND)


def full_fallback(path: Path) -> Scene:
    """The delta is as signed and does not apply."""
    publisher, directory = installed(path)
    publisher.publish(2, SECOND)
    wrong = b"CCD\x01 made wrongly"
    targets = publisher.repository.documents["us"]["targets"]
    targets["us/stable/from-1.ccd"] = {"length": len(wrong), "hashes": {"sha256": digest(wrong)}}
    publisher.files[publisher.path(wrong, "from-1.ccd")] = wrong
    publisher.repository.publish("us")
    return Scene(directory.path, publisher.write(path / "mirror"), FIRST, SECOND)


def key_rotation(path: Path) -> Scene:
    """Two new roots, other keys for every top-level role, and a release."""
    publisher, directory = installed(path)
    repository = publisher.repository
    for round_ in range(2):
        old = repository.signers["root"]
        for role, count in (("root", 3), ("targets", 3), ("snapshot", 1), ("timestamp", 1)):
            threshold = 2 if count == 3 else 1
            repository.set_keys(role, [signer(f"{round_} {role} {number}") for number in range(count)], threshold)
        repository.publish_root(also=old)
    repository.publish("targets")
    publisher.publish(2, SECOND)
    return Scene(directory.path, publisher.write(path / "mirror"), FIRST, SECOND)


def refused_rollback(path: Path) -> Scene:
    """The mirror went back to release 1; the good one is where we were."""
    publisher, directory = installed(path)
    publisher.publish(2, SECOND)
    good = publisher.write(path / "good")
    asyncio.run(run(directory, str(good)))
    return Scene(directory.path, path / "before", SECOND, SECOND, RollbackError, good)


def logged(path: Path) -> tuple[Publisher, MemoryLog, ClientDirectory]:
    """As ``installed``, with evidence; the policy lists a second log that has nothing yet."""
    log, other = MemoryLog(), MemoryLog("log.example/other")
    publisher = Publisher(path / "publisher", regions=("us",), log=log)
    repository = publisher.repository
    lines = log.policy.replace("witness w0", f"log {other.key.public.vkey}\nwitness w0").splitlines()
    repository.root["coldchain"]["log_policy"] = lines
    repository.files["metadata/1.root.json"] = sign(repository.root, repository.signers["root"])
    publisher.publish(1, FIRST)
    directory = publisher.client(path / "template", "http://placeholder.invalid")
    asyncio.run(run(directory, str(publisher.write(path / "before"))))
    return publisher, other, directory


def with_evidence(path: Path) -> Scene:
    """A proof, a log that grew, a release between."""
    publisher, _, directory = logged(path)
    publisher.publish(2, FIRST)
    publisher.publish(3, SECOND)
    return Scene(directory.path, publisher.write(path / "mirror"), FIRST, SECOND)


def another_log(path: Path) -> Scene:
    publisher, other, directory = logged(path)
    publisher.log = other
    publisher.publish(2, SECOND)
    return Scene(directory.path, publisher.write(path / "mirror"), FIRST, SECOND)


def refused_fork(path: Path) -> Scene:
    """The mirror offers a release under another story of the log; the good one has it under the honest one."""
    publisher, _, directory = logged(path)
    honest, previous = publisher.log, publisher.previous
    publisher.log = MemoryLog()
    publisher.log.append(b"special")
    publisher.publish(2, SECOND)
    mirror = publisher.write(path / "mirror")
    publisher.log, publisher.previous = honest, previous
    del publisher.releases["us"][2]
    publisher.publish(2, SECOND)
    return Scene(directory.path, mirror, FIRST, SECOND, EvidenceError, publisher.write(path / "good"))


SCENES: dict[str, Callable[[Path], Scene]] = {
    "first install": first_install,
    "delta": delta,
    "full fallback": full_fallback,
    "key rotation": key_rotation,
    "refused rollback": refused_rollback,
    "with evidence": with_evidence,
    "another log": another_log,
    "refused fork": refused_fork,
}


def remembered(path: Path) -> dict[str, int]:
    """What an endpoint knows of logs: entries by the log's name."""
    found: dict[str, int] = {}
    for one in (path / "metadata").glob("checkpoint*"):
        said = parse_checkpoint(parse_note(one.read_bytes()).text)
        found[said.origin] = max(said.size, found.get(said.origin, 0))
    return found


def state_of(scene: Scene, directory: ClientDirectory) -> str:
    """``old``, ``new``, or what is wrong."""
    if not directory.current.is_symlink():
        return "torn: something runs without being named" if scene.before else "old"
    found = contents(directory)
    problem = audit(directory, utc_now()).error
    if problem is not None:
        return f"torn: {problem.what}"
    if found == scene.after:
        return "new" if scene.before != scene.after else "old"
    return "old" if found == scene.before and scene.before else "torn: another content"


def sweep(
    scene: Scene,
    path: Path,
    count: int | None = None,
    errors: Sequence[int] = (),
    calls: Iterable[str] = crashpoints.FILE_CALLS,
) -> tuple[int, int, Counter[str]]:
    """Stops the update at every point, or at ``count`` of them: by kill -9, or with one of ``errors`` after the other.

    Returns:
        How many points there are, how many were tried, and what was found.
    """
    names = frozenset(calls)

    def work(directory: ClientDirectory) -> Callable[[], None]:
        return lambda: scene.update(directory)

    whole = crashpoints.run(work(scene.endpoint(path)), calls=names)
    assert whole.finished == (scene.refused is None), whole.raised
    assert scene.refused is None or scene.refused.__name__ in whole.raised
    total = len(whole.calls)
    points = crashpoints.spread(total, count or total)
    states: Counter[str] = Counter()
    for turn, point in enumerate(points):
        error = errors[turn % len(errors)] if errors else None
        directory = scene.endpoint(path)
        ending = crashpoints.run(work(directory), point, error=error, calls=names)
        assert error is not None or ending.killed, (point, ending)
        state = state_of(scene, directory)
        where = f"{point}: {whole.calls[point - 1]}"
        states[state if not state.startswith("torn") else f"{state} at {where}"] += 1
        if error is not None and ending.raised:
            # A refusal of the disk is told as one; what remains open is a failing mirror, which is a disk here too.
            last = ending.raised.strip().splitlines()[-1]
            assert "coldchain.errors." in last, (where, ending.raised)
        known = remembered(directory.path)
        assert all(known.get(log, 0) >= size for log, size in remembered(scene.template).items()), where
        if state.startswith("torn"):
            continue
        scene.next_poll(directory)
        assert contents(directory) == scene.after, where
        assert audit(directory, utc_now()).error is None, where
        assert left_over(directory) == [], where
    return total, len(points), states


def torn(states: Counter[str]) -> list[str]:
    return [state for state in states if state.startswith("torn")]


def show(what: str, total: int, tried: int, states: Counter[str]) -> None:
    found = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    print(f"\n{what}: {tried} of {total} points, {found}, {len(torn(states))} torn")


@pytest.mark.parametrize("name", SCENES)
def test_killed_at_a_spread_of_points(name: str, tmp_path: Path) -> None:
    total, tried, states = sweep(SCENES[name](tmp_path), tmp_path / "endpoint", QUICK)
    show(f"kill -9, {name}", total, tried, states)
    assert torn(states) == []


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
def test_refused_at_a_spread_of_points(error: int, tmp_path: Path) -> None:
    total, tried, states = sweep(delta(tmp_path), tmp_path / "endpoint", 8, [error], READS)
    show(f"{errno.errorcode[error]}, delta", total, tried, states)
    assert torn(states) == []


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCENES)
def test_killed_at_every_point(name: str, tmp_path: Path) -> None:
    total, tried, states = sweep(SCENES[name](tmp_path), tmp_path / "endpoint")
    show(f"kill -9, {name}", total, tried, states)
    assert tried == total
    assert torn(states) == []


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
def test_refused_at_every_point(error: int, tmp_path: Path) -> None:
    total, tried, states = sweep(delta(tmp_path), tmp_path / "endpoint", None, [error], READS)
    show(f"{errno.errorcode[error]}, delta", total, tried, states)
    assert tried == total
    assert torn(states) == []


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCENES)
def test_refused_at_every_point_in_turn(name: str, tmp_path: Path) -> None:
    total, tried, states = sweep(SCENES[name](tmp_path), tmp_path / "endpoint", None, ERRORS, READS)
    show(f"the errors in turn, {name}", total, tried, states)
    assert tried == total
    assert torn(states) == []


# -- negative controls: the same sweep finds an update that is made wrongly ------------------------------------------


def switched_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """``current`` names the version before its sections are there."""
    stage = versions.stage

    def early(directory: ClientDirectory, *words: object, **options: object) -> object:
        published = next(word for word in words if isinstance(word, str))
        with directory.folder() as here:
            here.replace_symlink("current", f"versions/2-{published[:16]}")
        return stage(directory, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(versions, "stage", early)


def evidence_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch comes before the evidence of the new version."""
    from coldchain.install import trusted

    write, switch = trusted.write_evidence, versions.switch
    held: list[tuple[ClientDirectory, str, dict[str, bytes]]] = []

    def late(directory: ClientDirectory, version: str, files: dict[str, bytes]) -> None:
        held.append((directory, version, files))

    def switching(directory: ClientDirectory, new: Version, old: Version | None) -> None:
        switch(directory, new, old)
        for one in held:
            write(*one)

    monkeypatch.setattr(trusted, "write_evidence", late)
    monkeypatch.setattr(versions, "switch", switching)


def written_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is removed and made anew instead of being replaced in one step."""
    replace = Folder.replace_symlink

    def in_two_steps(folder: Folder, name: str, target: str) -> None:
        folder.remove(name)
        replace(folder, name, target)

    monkeypatch.setattr(Folder, "replace_symlink", in_two_steps)


@pytest.mark.parametrize("break_", [switched_too_early, evidence_too_late, written_in_place])
def test_an_update_in_the_wrong_order_is_found_torn(
    break_: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = delta(tmp_path)
    break_(monkeypatch)
    path = tmp_path / "endpoint"
    calls = {"fsync", "symlink", "unlink", "rename", "mkdir"}  # an order is told by these
    whole = crashpoints.run(lambda: scene.update(scene.endpoint(path)), calls=calls)
    assert whole.finished, whole.raised
    states: Counter[str] = Counter()
    for point in range(1, len(whole.calls) + 1):
        directory = scene.endpoint(path)
        crashpoints.run(lambda: scene.update(directory), point, calls=calls)  # noqa: B023  called at once
        states[state_of(scene, directory)] += 1
        if torn(states):
            break
    show(f"negative control, {break_.__name__}", len(whole.calls), states.total(), states)
    assert torn(states)
