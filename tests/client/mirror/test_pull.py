"""A mirror brings what a publisher serves, verified; readers of it get what they would get from the origin, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import http.server
import itertools
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coldchain.agent.make_pack import Wanted, make_pack
from coldchain.agent.update import Settings, update
from coldchain.errors import (
    ColdchainError,
    EvidenceError,
    ExpiredError,
    LockedError,
    RollbackError,
    StorageError,
    TransportError,
    VerificationError,
)
from coldchain.install import public_log, trusted
from coldchain.mirror import generation
from coldchain.mirror import pull as pull_module
from coldchain.mirror.directory import MirrorDirectory
from coldchain.mirror.state import parse_mirror_state
from coldchain.mirror.tree import Tree
from coldchain.published_packs import KEPT, snapshot_of
from coldchain.tlog.tiles import new_tiles
from tests.client.agent.publisher import FIRST, SECOND, THIRD, Edge, serving
from tests.client.agent.test_rebuilt import KEYS, NAMES, attest
from tests.client.mirror.mirrored import Scene, served, without_canaries
from tests.client.tlog.memory_log import MemoryLog
from tests.client.tuf.repository import digest, sign, signer


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.publish(1, FIRST)
    return made


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return


@contextlib.contextmanager
def plain_server(folder: Path) -> Iterator[str]:
    """What ``python -m http.server`` runs: no entity tags, no ranges, listings."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def nginx(folder: Path, work: Path) -> Iterator[str]:
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    page = (Path(__file__).parents[3] / "docs" / "mirror.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
    site = shown.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("/srv/coldchain", str(folder))
    work.mkdir()
    (work / "nginx.conf").write_text(
        f"daemon off; user {'root' if os.getuid() == 0 else 'nobody'}; pid {work}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; client_body_temp_path {work}/a; proxy_temp_path {work}/b;"
        f" fastcgi_temp_path {work}/c; uwsgi_temp_path {work}/d; scgi_temp_path {work}/e;\n{site}\n}}\n"
    )
    process = subprocess.Popen([program, "-c", str(work / "nginx.conf"), "-p", str(work)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, "nginx did not start"
            threading.Event().wait(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_every_kind_of_server_serves_it(scene: Scene, tmp_path: Path) -> None:
    """The directory itself, the plainest server, nginx as docs/mirror.md configures it; a first set, then a delta."""
    scene.config = replace(scene.config, regions=("jp", "us"))
    scene.pull()
    with contextlib.ExitStack() as stack:
        urls = {
            "directory": str(scene.mirror.path),
            "file url": f"file://{scene.mirror.path}",
            "plain": stack.enter_context(plain_server(scene.mirror.path)),
        }
        if shutil.which("nginx"):
            urls["nginx"] = stack.enter_context(nginx(scene.mirror.path, tmp_path / "nginx"))
        clients = {
            (name, region): scene.client(f"{name} {region}", region=region) for name in urls for region in ("us", "jp")
        }
        for release, content in enumerate((FIRST, SECOND, THIRD), 1):
            if release > 1:
                scene.publish(release, content)
                scene.pull()
            for (name, _), client in clients.items():
                assert scene.update(client, urls[name].removeprefix("file://")) == release, name
                assert without_canaries(client) == content


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_hands_out_nothing_of_the_mirrors_own(scene: Scene, tmp_path: Path) -> None:
    import urllib.error
    import urllib.request

    scene.pull()
    with nginx(scene.mirror.path, tmp_path / "nginx") as url:
        with urllib.request.urlopen(f"{url}/metadata/timestamp.json") as answer:
            assert answer.read() == scene.publisher.files["metadata/timestamp.json"]
        for path in (".mirror/mirror.json", ".mirror/state.json", ".mirror/lock", "metadata/", "targets/us/"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{url}/{path}")
            assert refused.value.code in (403, 404)
            refused.value.close()


def test_what_is_served_is_what_the_origin_serves(scene: Scene) -> None:
    scene.publish(2, SECOND)
    scene.pull()
    found = served(scene.mirror)
    for path, data in found.items():
        assert scene.publisher.files[path] == data
    ours = {path for path in scene.publisher.files if not re.search(r"/jp/|\.jp\.json|tile/entries", path)}
    old = {"metadata/2.us.json", "metadata/2.rollout.json", "metadata/2.snapshot.json", "metadata/1.snapshot.json"}
    old |= {"metadata/1.us.json", "metadata/1.rollout.json", "log/tile/0/000.p/1"}
    named = scene.publisher.repository.documents["us"]["targets"]
    now = {f"targets/us/stable/{info['hashes']['sha256']}.{path.rpartition('/')[2]}" for path, info in named.items()}
    assert ours - old - set(found) == {path for path in ours if path.startswith("targets/")} - now
    assert set(found) >= now


async def test_a_second_run_fetches_only_what_is_new(scene: Scene) -> None:
    edge = Edge(scene.publisher.files)
    async with serving(edge) as url:
        config = replace(scene.config, urls=(url,))
        first = await scene.apull(config)
        assert first.action == "mirrored"
        edge.log.clear()
        same = await scene.apull(config)
        assert (same.action, same.files, same.bytes) == ("current", 0, 0)
        assert edge.paths == ["metadata/2.root.json", "metadata/timestamp.json", "log/checkpoint"]
        assert same.bytes_down < 1500
        before = set(served(scene.mirror))
        scene.publish(2, SECOND)
        edge.log.clear()
        again = await scene.apull(config)
        assert again.action == "updated"
        new = set(served(scene.mirror)) - before
        probes = {"metadata/2.root.json", "metadata/timestamp.json", "log/checkpoint"}
        # the manifest comes in the evidence, and is served under its own name too; packs are made here
        made = {path for path in new if path.startswith(("manifests/", "packs/"))}
        assert set(edge.paths) == (new - made) | probes
        assert max(map(edge.paths.count, edge.paths)) <= 2
        assert again.bytes == sum(
            len(scene.publisher.files[path])
            for path in {*new, "metadata/timestamp.json", "log/checkpoint"}
            if not path.startswith("packs/")
        )


def test_a_mirror_of_a_mirror_of_a_mirror(scene: Scene, tmp_path: Path) -> None:
    chain = [scene.mirror, MirrorDirectory(tmp_path / "second"), MirrorDirectory(tmp_path / "third")]
    client = scene.client(url=str(chain[-1].path))
    for release, content in enumerate((FIRST, SECOND), 1):
        if release > 1:
            scene.publish(release, content)
        scene.pull()
        for before, mirror in itertools.pairwise(chain):
            scene.pull(replace(scene.config, urls=(str(before.path),)), mirror=mirror)
        assert scene.update(client) == release
    origin, last = served(chain[0]), served(chain[2])
    assert {path: data for path, data in origin.items() if path in last} == last


def test_another_region_comes_and_goes(scene: Scene) -> None:
    scene.pull()
    client = scene.client(region="jp")
    with pytest.raises(TransportError):
        scene.update(client)
    scene.pull(replace(scene.config, regions=("jp", "us")))
    assert scene.update(client) == 1
    scene.pull()
    scene.later = timedelta(hours=23)
    assert scene.pull(replace(scene.config, grace=22)).removed == 3
    assert not (scene.mirror.path / "targets" / "jp").exists() or list(
        (scene.mirror.path / "targets/jp/stable").iterdir()
    )


# -- nothing comes through that is not as signed ---------------------------------------------------------------------


def test_every_altered_file_is_refused_and_what_was_served_stays(scene: Scene) -> None:
    scene.pull()
    before = served(scene.mirror)
    old = dict(scene.publisher.files)
    scene.publish(2, SECOND)
    new = [
        path
        for path, data in scene.publisher.files.items()
        if old.get(path) != data and "jp" not in path and not path.startswith("packs/")  # made here, not fetched
    ]
    kinds = {re.sub(r"[0-9a-f]{64}|\d+", "*", path) for path in new}
    assert len(kinds) >= 8
    saved = scene.path / "saved"
    shutil.copytree(scene.mirror.path, saved, symlinks=True)
    for path in new:
        if path.startswith("manifests/") or "tile/entries" in path:
            continue  # a manifest comes in the evidence as well; entries do not come
        whole = (scene.upstream / path).read_bytes()
        for damage in (whole[:-1], whole[:9] + bytes([whole[9] ^ 1]) + whole[10:], b"", whole + b" " * 9000):
            shutil.rmtree(scene.mirror.path)
            shutil.copytree(saved, scene.mirror.path, symlinks=True)
            (scene.upstream / path).write_bytes(damage)
            if path.startswith("metadata/") and damage.endswith(b" "):
                continue  # still the same signed words
            with pytest.raises((VerificationError, EvidenceError, TransportError)) as refused:
                scene.pull()
            assert "what the mirror serves stays as it is" in refused.value.kept
            found = served(scene.mirror)
            assert {name: found[name] for name in before if name != "log/checkpoint"} == {
                name: data for name, data in before.items() if name != "log/checkpoint"
            }
            assert scene.fresh_release() == 1
        (scene.upstream / path).write_bytes(whole)
    scene.pull()
    assert scene.fresh_release() == 2


def test_a_good_source_makes_up_for_a_bad_one(scene: Scene, tmp_path: Path) -> None:
    scene.publish(2, SECOND)
    bad = tmp_path / "bad"
    paths = [path for path in scene.publisher.files if "jp" not in path]
    for path in paths:
        shutil.rmtree(bad, ignore_errors=True)
        shutil.rmtree(scene.mirror.path, ignore_errors=True)
        scene.publisher.write(bad)
        data = (bad / path).read_bytes()
        (bad / path).write_bytes(data[:5] + bytes([data[5] ^ 1]) + data[6:])
        assert scene.pull(replace(scene.config, urls=(str(bad), str(scene.upstream)))).action == "mirrored"
        found = served(scene.mirror)
        assert all(scene.publisher.files[name] == data for name, data in found.items())


def test_a_tampered_mirror_is_refused_by_its_readers_and_mended_by_a_check(scene: Scene) -> None:
    client = scene.client()
    scene.pull()
    scene.update(client)
    scene.publish(2, SECOND)
    scene.pull()
    unnamed = parse_mirror_state((scene.mirror.own.path / "state.json").read_bytes()).unnamed
    assert len(unnamed) >= 6
    template = scene.path / "template"
    shutil.copytree(client.path, template, symlinks=True)
    saved = scene.path / "saved"
    shutil.copytree(scene.mirror.path, saved, symlinks=True)
    for path, data in served(scene.mirror).items():
        shutil.rmtree(scene.mirror.path)
        shutil.copytree(saved, scene.mirror.path, symlinks=True)
        file = scene.mirror.path / path
        file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        shutil.rmtree(client.path)
        shutil.copytree(template, client.path, symlinks=True)
        refused = scene.refusal(client)
        assert without_canaries(client) == (SECOND if refused is None else FIRST)
        if re.search(r"from-1\.ccd|timestamp", path):
            assert isinstance(refused, (VerificationError, EvidenceError)), path
        named = path not in unnamed
        scene.pull(check=True)
        assert file.read_bytes() == data if named else not file.exists() or file.read_bytes() == data, path
        assert scene.update(client) == 2


def test_an_old_state_of_the_source_is_refused(scene: Scene, tmp_path: Path) -> None:
    scene.publisher.write(tmp_path / "old")
    scene.publish(2, SECOND)
    scene.pull()
    with pytest.raises(RollbackError):
        scene.pull(replace(scene.config, urls=(str(tmp_path / "old"),)))
    assert scene.fresh_release() == 2


def test_a_source_that_stands_still_is_noticed(scene: Scene) -> None:
    scene.pull()
    scene.later = timedelta(days=30)
    with pytest.raises(ExpiredError):
        scene.pull()


def test_a_second_story_of_the_log_is_refused_and_proved(scene: Scene) -> None:
    scene.pull()
    before = served(scene.mirror)
    honest = scene.publisher.log
    scene.publisher.log = MemoryLog()
    scene.publisher.log.append(b"special")
    scene.publish(2, SECOND)
    with pytest.raises(EvidenceError, match="two different stories"):
        scene.pull()
    assert (scene.mirror.own.metadata / public_log.FORK).exists()
    assert served(scene.mirror).items() >= before.items()
    assert honest is not None


def test_a_checkpoint_alone_that_forks_is_refused(scene: Scene) -> None:
    scene.pull()
    other = MemoryLog()
    other.append(b"one", b"two", b"three")
    for path, data in other.files.items():
        (scene.upstream / "log" / path).parent.mkdir(parents=True, exist_ok=True)
        (scene.upstream / "log" / path).write_bytes(data)
    with pytest.raises(EvidenceError, match="two different stories"):
        scene.pull()


def test_a_checkpoint_never_goes_backwards(scene: Scene) -> None:
    scene.publish(2, SECOND)
    scene.pull()
    newest = (scene.mirror.path / "log/checkpoint").read_bytes()
    (scene.upstream / "log/checkpoint").write_bytes(MemoryLog().note(0).encode())
    assert scene.pull().action == "current"
    assert (scene.mirror.path / "log/checkpoint").read_bytes() == newest


# -- the log, roots, rebuilders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3, 250, 256), (255, 258), (256, 600)])
def test_whatever_tree_a_client_saw_leads_on_from_the_mirror(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """Clients stand before the mirrored release with trees of many sizes."""
    scene = Scene(tmp_path, ("us",))
    clients = []
    for release, size in enumerate(sizes, 1):
        scene.log.append(*(b"entry %d" % n for n in range(scene.log.size, size - 1)))
        scene.publish(release, (FIRST, SECOND, THIRD)[release - 1])
        scene.pull()
        clients.append(scene.client(f"client {release}"))
        for client in clients:
            scene.update(client)
    scene.log.append(*(b"more %d" % n for n in range(700)))
    scene.publish(len(sizes) + 1, FIRST | {"more.hsb": SECOND["daily.hsb"]})
    done = scene.pull()
    for client in clients:
        assert scene.update(client) == len(sizes) + 1
    assert done.requests < 30
    again = scene.pull()
    assert again.files == 0


def test_a_damaged_tile_is_fetched_anew(tmp_path: Path) -> None:
    scene = Scene(tmp_path, ("us",))
    scene.log.append(*(b"entry %d" % n for n in range(700)))
    scene.publish(1, FIRST)
    scene.pull()
    tiles = sorted(path for path in served(scene.mirror) if path.startswith("log/tile"))
    assert len(tiles) == 4
    for path in tiles:
        good = (scene.mirror.path / path).read_bytes()
        (scene.mirror.path / path).write_bytes(bytes(len(good)))
        scene.pull(check=True)
        assert (scene.mirror.path / path).read_bytes() == good
    for path in tiles:  # damaged, and in the way of what is new
        (scene.mirror.path / path).write_bytes(bytes((scene.mirror.path / path).stat().st_size))
    scene.publish(2, FIRST)
    scene.pull()
    assert scene.fresh_release() == 2


def test_every_tile_is_checked_before_it_is_kept(tmp_path: Path) -> None:
    """Full ones and partial ones, of every level; what is under the root is kept, what is not never gets its name."""
    scene = Scene(tmp_path, ("us",))
    scene.log.append(*(b"entry %d" % n for n in range(700)))
    scene.publish(1, FIRST)
    tiles = [path for path in scene.publisher.files if re.fullmatch(r"log/tile/[0-9].*", path)]
    tiles = [path for path in tiles if ".p/" not in path] + [
        f"log/{tile.path}" for tile in new_tiles(0, 701) if tile.width < 256
    ]
    tiles = sorted({path for path in tiles if "entries" not in path})
    assert len(tiles) == 4
    for path in tiles:
        good = (scene.upstream / path).read_bytes()
        (scene.upstream / path).write_bytes(bytes([good[0] ^ 1]) + good[1:])
        shutil.rmtree(scene.mirror.path, ignore_errors=True)
        with pytest.raises(EvidenceError):
            scene.pull()
        assert not (scene.mirror.path / path).exists()
        (scene.upstream / path).write_bytes(good)
        assert scene.pull().action == "mirrored"
        assert (scene.mirror.path / path).read_bytes() == good


def test_an_endpoint_that_pinned_an_earlier_root_finds_the_way(scene: Scene) -> None:
    client = scene.client()
    repository = scene.publisher.repository
    for round_ in range(2):
        old = repository.signers["root"]
        repository.set_keys("root", [signer(f"{round_} root {number}") for number in range(3)], 2)
        repository.publish_root(also=old)
    repository.publish("targets")
    scene.publish(2, SECOND)
    pinned = scene.publisher.files["metadata/3.root.json"]
    config = replace(scene.config, root=digest(pinned))
    scene.prepare(scene.mirror, config, pinned)
    with scene.mirror.own.locked():
        asyncio.run(pull_module.pull(scene.mirror, config))
        asyncio.run(pull_module.pull(scene.mirror, config))
    assert scene.update(client) == 2
    assert {f"metadata/{n}.root.json" for n in (1, 2, 3)} <= set(served(scene.mirror))


def test_roots_that_do_not_lead_up_to_the_pinned_one_are_left_out(scene: Scene, tmp_path: Path) -> None:
    repository = scene.publisher.repository
    old = repository.signers["root"]
    repository.set_keys("root", [signer(f"new root {number}") for number in range(3)], 2)
    repository.publish_root(also=old)
    repository.publish("targets")
    scene.publish(2, SECOND)
    other = Scene(tmp_path / "other").publisher.repository
    other.set_keys("root", [signer(f"foreign {number}") for number in range(3)], 2)
    (scene.upstream / "metadata/1.root.json").write_bytes(sign(other.root, other.signers["root"]))
    pinned = scene.publisher.files["metadata/2.root.json"]
    config = replace(scene.config, root=digest(pinned))
    scene.prepare(scene.mirror, config, pinned)
    with scene.mirror.own.locked():
        asyncio.run(pull_module.pull(scene.mirror, config))
    assert "metadata/1.root.json" not in served(scene.mirror)


@pytest.mark.parametrize("needed", [1, 2])
def test_rebuilders_words_come_along(scene: Scene, needed: int) -> None:
    lines = [f"# coldchain: rebuilder {name} {key.raw.hex()}" for name, key in zip(NAMES, KEYS, strict=True)]
    policy = (scene.log.policy + "\n".join([*lines, f"# coldchain: rebuilders {needed}", ""])).encode()
    scene.mirror.make()
    with scene.mirror.own.locked():
        config = replace(scene.config, policy=public_log.keep_policy(scene.mirror.own, policy))
    for there in range(needed):
        attest(scene.publisher, *range(there))
        scene.publisher.write(scene.upstream)
        with pytest.raises(EvidenceError, match=f"rebuilt by {there} of {needed}"):
            scene.pull(config)
        assert not (scene.mirror.path / "metadata").exists()
    attest(scene.publisher, *range(needed))
    scene.publisher.write(scene.upstream)
    assert scene.pull(config).action == "mirrored"
    client = scene.client()
    with client.locked():
        client.write_config(replace(client.config(), policy=public_log.keep_policy(client, policy)))
    assert scene.update(client) == 1
    assert scene.pull(config).action == "current"
    path = next(path for path in served(scene.mirror) if path.startswith("attestations/"))
    (scene.mirror.path / path).write_bytes(b"{}")
    scene.pull(config)
    assert served(scene.mirror)[path] == scene.publisher.files[path]


def test_a_word_that_does_not_count_is_not_passed_on(scene: Scene) -> None:
    """One rebuilder is enough; what a second one is said to have written is not its own."""
    lines = [f"# coldchain: rebuilder {name} {key.raw.hex()}" for name, key in zip(NAMES, KEYS, strict=True)]
    policy = (scene.log.policy + "\n".join([*lines, "# coldchain: rebuilders 1", ""])).encode()
    scene.mirror.make()
    with scene.mirror.own.locked():
        config = replace(scene.config, policy=public_log.keep_policy(scene.mirror.own, policy))
    attest(scene.publisher, 0, 1)
    first, second = (path for path in sorted(scene.publisher.files) if path.startswith("attestations/"))
    scene.publisher.files[second] = scene.publisher.files[first]
    scene.publisher.write(scene.upstream)
    scene.pull(config)
    assert first in served(scene.mirror)
    assert second not in served(scene.mirror)


@pytest.mark.parametrize("cosigned", [0, 1])
def test_a_release_that_the_witnesses_have_not_seen_is_not_mirrored(
    scene: Scene, cosigned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.pull()
    before = served(scene.mirror)
    proof = scene.log.proof
    monkeypatch.setattr(scene.log, "proof", lambda index, at: proof(index, cosigned, at))
    scene.publish(2, SECOND)
    with pytest.raises(EvidenceError, match="quorum"):
        scene.pull()
    assert served(scene.mirror).items() >= before.items()
    assert scene.fresh_release() == 1


# -- what is no longer named -----------------------------------------------------------------------------------------


def test_a_file_stays_for_its_grace_and_no_longer(scene: Scene) -> None:
    config = replace(scene.config, grace=5)
    scene.pull(config)
    first = set(served(scene.mirror))
    scene.publish(2, SECOND)
    done = scene.pull(config)
    second = set(served(scene.mirror))
    assert first <= second
    gone = {
        path
        for path in first
        if re.search(r"(targets/.*(full|evidence)|metadata/2\.(us|roll|snap)|000\.p/1$)|packs/", path)
    }
    assert done.waiting == len(gone) >= 6
    for hours in (1, 4, 5):
        scene.later = timedelta(hours=hours)
        assert scene.pull(config).removed == 0
        assert set(served(scene.mirror)) == second
    scene.later = timedelta(hours=5, seconds=1)
    done = scene.pull(config)
    assert set(served(scene.mirror)) == second - gone
    assert (done.waiting, done.served) == (0, len(second - gone))
    assert done.removed == len([path for path in gone if not path.startswith("metadata/")])
    assert scene.fresh_release() == 2


def test_a_client_that_began_with_the_old_metadata_ends_well(scene: Scene) -> None:
    """Every path that the old timestamp leads to is there until the grace is over."""
    scene.pull()
    old = served(scene.mirror)
    for release, content in ((2, SECOND), (3, THIRD)):
        scene.publish(release, content)
        scene.pull()
        found = served(scene.mirror)
        for path, data in old.items():
            if path not in ("metadata/timestamp.json", "log/checkpoint"):
                assert found[path] == data


def test_the_disk_stays_bounded_over_many_releases(scene: Scene) -> None:
    config = replace(scene.config, grace=2)
    sizes = []
    for release in range(2, 11):
        scene.later += timedelta(hours=1)
        for number in [number for number in scene.publisher.releases["us"] if number < release - 3]:
            del scene.publisher.releases["us"][number]  # a ladder of three deltas
        scene.publish(release, SECOND if release % 2 else THIRD)
        sizes.append(scene.pull(config).served)
    # what goes on growing are the manifests, up to as many as an endpoint walks
    assert [after - before for before, after in itertools.pairwise(sizes)][-3:] == [1] * 3
    assert scene.fresh_release() == 10


def test_a_clock_that_went_back_starts_the_grace_anew(scene: Scene) -> None:
    config = replace(scene.config, grace=1)
    scene.later = timedelta(hours=12)
    scene.pull(config)
    scene.publish(2, SECOND)
    scene.pull(config)
    waiting = set(served(scene.mirror))
    for hours in (0, 0.9, 1):
        scene.later = timedelta(hours=hours)
        scene.pull(config)
        assert set(served(scene.mirror)) == waiting
    scene.later = timedelta(hours=1.1)
    scene.pull(config)
    assert len(served(scene.mirror)) < len(waiting)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 50, None])
def test_a_lost_state_costs_a_later_tidying(scene: Scene, damage: bytes | None) -> None:
    config = replace(scene.config, grace=1)
    scene.pull(config)
    scene.publish(2, SECOND)
    scene.pull(config)
    path = scene.mirror.own.path / "state.json"
    scene.later = timedelta(minutes=59)
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    whole = set(served(scene.mirror))
    scene.pull(config)
    scene.later += timedelta(minutes=59)
    scene.pull(config)
    assert set(served(scene.mirror)) == whole
    scene.later += timedelta(minutes=2)
    scene.pull(config)
    assert set(served(scene.mirror)) < whole


# -- the directory ---------------------------------------------------------------------------------------------------


def test_one_run_at_a_time(scene: Scene) -> None:
    scene.pull()
    with scene.mirror.own.locked(), pytest.raises(LockedError):
        scene.pull()


def test_what_does_not_fit_is_refused_before_it_is_fetched(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_module, "free_bytes", lambda _: 10_000)
    with pytest.raises(StorageError, match="room for 10,000"):
        scene.pull()
    assert not (scene.mirror.path / "targets").exists()
    monkeypatch.undo()
    assert scene.pull().action == "mirrored"


def test_without_links_the_metadata_is_written_in_place(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a stick with FAT."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(os, "link", refuse)
    config, client = replace(scene.config, grace=1), None
    for release, content in enumerate((FIRST, SECOND, THIRD), 1):
        if release > 1:
            scene.publish(release, content)
        scene.later += timedelta(hours=2)
        scene.pull(config)
        assert not (scene.mirror.path / "metadata").is_symlink()
        monkeypatch.undo()
        client = client or scene.client()
        assert scene.update(client) == release
        monkeypatch.setattr(os, "symlink", refuse)
        monkeypatch.setattr(os, "link", refuse)
        assert scene.pull(config).action == "current"
    assert not (scene.mirror.path / "metadata/1.snapshot.json").exists()


@pytest.mark.parametrize("links", [True, False])
def test_every_timestamp_is_dated_later_than_the_one_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """nginx gives two files of one length and one second the same entity tag, and would hide the second of them."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    dates = []
    for release in range(2, 6):
        with monkeypatch.context() as patched:
            if not links:
                patched.setattr(os, "symlink", refuse)
            scene.pull()
        dates.append(int((scene.mirror.path / "metadata/timestamp.json").stat().st_mtime))
        scene.publish(release, FIRST)
    assert all(after > before for before, after in itertools.pairwise(dates))


def test_a_copy_without_links_serves(scene: Scene, tmp_path: Path) -> None:
    scene.pull()
    shutil.copytree(scene.mirror.path, tmp_path / "stick", ignore=shutil.ignore_patterns(".mirror"))
    assert not (tmp_path / "stick" / "metadata").is_symlink()
    assert scene.fresh_release(str(tmp_path / "stick")) == 1


def test_links_in_the_tree_lead_nowhere(scene: Scene, tmp_path: Path) -> None:
    """A link in the place of a folder or a file is replaced, and nothing is written behind it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    scene.pull()
    for path in [path for path in served(scene.mirror) if path.startswith(("targets/", "log/", "manifests/"))]:
        data = (scene.mirror.path / path).read_bytes()
        (scene.mirror.path / path).unlink()
        (scene.mirror.path / path).symlink_to(outside / "file")
        scene.pull()
        assert not (scene.mirror.path / path).is_symlink()
        assert (scene.mirror.path / path).read_bytes() == data
        assert list(outside.iterdir()) == []
    shutil.rmtree(scene.mirror.path / "targets/us/stable")
    (scene.mirror.path / "targets/us/stable").symlink_to(outside)
    scene.pull()
    assert list(outside.iterdir()) == []
    assert scene.fresh_release() == 1


def test_a_foreign_metadata_link_is_replaced(scene: Scene, tmp_path: Path) -> None:
    scene.pull()
    for target in (
        "/etc",
        "../outside",
        ".mirror/generations/../../..",
        ".mirror/metadata",
        ".mirror/generations/0123456789abcdef",
    ):
        (scene.mirror.path / "metadata").unlink()
        (scene.mirror.path / "metadata").symlink_to(target)
        scene.pull()
        assert re.fullmatch(r"\.mirror/generations/[0-9a-f]{16}", str((scene.mirror.path / "metadata").readlink()))
        assert scene.fresh_release() == 1


def test_readers_see_one_whole_generation_while_it_is_switched(scene: Scene) -> None:
    """A reader's loop beside ten runs of the mirror: every refresh ends well."""
    scene.pull()
    stop, seen, wrong = threading.Event(), [], []
    path = scene.path / "reader"

    def read() -> None:
        while not stop.is_set():
            shutil.rmtree(path, ignore_errors=True)
            client = scene.publisher.client(path, str(scene.mirror.path))
            try:
                seen.append(asyncio.run(update(client, Settings(now=lambda: scene.now))).release)
            except ColdchainError as error:
                wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for release in range(2, 8):
            scene.publish(release, SECOND if release % 2 else THIRD)
            scene.pull()
    finally:
        stop.set()
        reader.join()
    assert wrong == []
    assert seen == sorted(seen)
    assert scene.fresh_release() == 7


# -- packs -----------------------------------------------------------------------------------------------------------


def test_packs_from_the_mirror_cross_the_air_gap(scene: Scene, tmp_path: Path) -> None:
    config = replace(scene.config, regions=("jp", "us"), packs=True)
    assert scene.pull(config).packs == ["packs/jp/stable/latest.pack", "packs/us/stable/latest.pack"]
    client = scene.client(url="http://placeholder.invalid")
    folder = scene.mirror.path / "packs/us/stable"
    asyncio.run(update(client, Settings(pack=folder / "latest.pack", now=lambda: scene.now)))
    scene.publish(2, SECOND)
    done = scene.pull(config)
    assert len(done.packs) == 4
    kept = {path: path.stat().st_ino for path in folder.iterdir()}
    assert scene.pull(config).action == "current"
    assert {path: path.stat().st_ino for path in folder.iterdir()} == kept  # not made again for nothing
    outcome = asyncio.run(update(client, Settings(pack=folder / "latest.from-1.pack", now=lambda: scene.now)))
    assert (outcome.release, outcome.way) == (2, "delta")
    assert without_canaries(client) == SECOND
    fresh = scene.client("fresh", url="http://placeholder.invalid")
    assert asyncio.run(update(fresh, Settings(pack=folder / "latest.pack", now=lambda: scene.now))).release == 2
    scene.publish(3, THIRD)
    scene.pull(replace(config, packs=False))
    scene.later = timedelta(hours=25)
    with contextlib.suppress(ExpiredError):
        scene.pull(replace(config, packs=False))


def test_coldchain_pack_takes_the_mirror_for_a_source(scene: Scene, tmp_path: Path) -> None:
    client = scene.client()
    scene.pull()
    scene.update(client)
    scene.publish(2, SECOND)
    scene.pull()
    made = asyncio.run(
        make_pack(
            str(scene.mirror.path),
            scene.publisher.repository.pinned,
            tmp_path / "a.pack",
            Wanted("us", start=1),
            scene.now,
        )
    )
    assert (made.release, made.start) == (2, 1)
    assert asyncio.run(update(client, Settings(pack=tmp_path / "a.pack", now=lambda: scene.now))).release == 2


def test_the_pinned_root_is_the_first_that_counts(scene: Scene) -> None:
    scene.mirror.make()
    trusted.pin(scene.mirror.own, Scene(scene.path / "other").publisher.repository.pinned)
    scene.pull()
    assert generation.current(scene.mirror) is not None


# -- packs for endpoints that poll -------------------------------------------------------------------------------------


def published_packs(mirror: MirrorDirectory) -> dict[str, bytes]:
    return {path: data for path, data in served(mirror).items() if snapshot_of(path)}


def test_packs_are_made_here_and_old_ones_go(scene: Scene) -> None:
    versions = []
    for number in range(1, 7):
        if number > 1:
            scene.publish(number, (FIRST, SECOND)[number % 2])
        scene.pull()
        versions.append(scene.publisher.repository.documents["snapshot"]["version"])
        assert {snapshot_of(path) for path in published_packs(scene.mirror)} == set(versions[-KEPT:])
        now = {path: data for path, data in published_packs(scene.mirror).items() if snapshot_of(path) == versions[-1]}
        assert len(now) == number
        assert all(scene.publisher.files[path] == data for path, data in now.items())


def test_a_pack_that_is_gone_or_damaged_comes_back(scene: Scene) -> None:
    scene.publish(2, SECOND)
    scene.pull()
    before = published_packs(scene.mirror)
    path = next(path for path in before if path.endswith("from-1.pack"))
    (scene.mirror.path / path).unlink()
    scene.pull()
    assert published_packs(scene.mirror) == before
    file = scene.mirror.path / path
    file.chmod(0o644)
    file.write_bytes(before[path][:-1] + b"x")
    scene.pull(check=True)
    assert published_packs(scene.mirror) == before


def test_a_disk_without_room_for_packs_holds_back_no_news(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.pull()
    scene.publish(2, SECOND)

    def refuses(*_: object) -> None:
        raise StorageError("no space left on the device")

    monkeypatch.setattr(Tree, "put_joined", refuses)
    assert scene.pull().releases == [("us", "stable", 2)]
    assert scene.fresh_release() == 2
    version = scene.publisher.repository.documents["snapshot"]["version"]
    assert version not in map(snapshot_of, published_packs(scene.mirror))
