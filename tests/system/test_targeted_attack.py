"""The targeted update, played to its end: an operator under pressure makes a special release for one endpoint.

The attacker has a copy of a real origin with all its keys, the region's threshold included: every signature that he makes is good. He
serves the copy, on a real socket, to one endpoint in jp. What he shows for the log's proof is the only difference between the cases::

    nothing                    refused: no proof
    another release's proof    refused: it proves something else
    a fork, with the log key   refused: the witnesses hold the true log and cosign no other one
    a fork, all witnesses too  refused by every endpoint that remembers a checkpoint; both checkpoints are kept as proof
    the true log               accepted, and in public: the monitor names it

python-tuf's own client, which trusts signatures from the pinned root alone, takes the special bundle in every one of these cases.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

import pytest
from tuf.ngclient import Updater

from coldchain.agent.update import Settings as UpdateSettings
from coldchain.agent.update import update
from coldchain.bundle.delta import apply_delta
from coldchain.bundle.evidence_file import read_evidence_file
from coldchain.errors import EvidenceError, StateError
from coldchain.install import trusted
from coldchain.install.directory import ROOT_POLICY, ClientDirectory, Config
from coldchain.monitor.directory import MonitorDirectory
from coldchain.monitor.report import Report
from coldchain.monitor.settings import WatchSettings
from coldchain.monitor.watch import watch
from coldchain.tlog.checkpoint import open_checkpoint, parse_checkpoint
from coldchain.tlog.note import SignedNote, parse_note, sign_text
from coldchain.tlog.proof import OfflineProof
from coldchain.verify import EVIDENCE
from coldchain_server.demo_coercion import Special, special_release
from coldchain_server.home import Home
from coldchain_server.log.http_witnesses import HttpWitnesses
from coldchain_server.log.public_log import PublicLog
from coldchain_server.signing.log_policy import log_signer
from coldchain_server.signing.nacl_signer import register
from coldchain_server.signing.roles import load_state, now_utc
from coldchain_server.web.origin import running
from tests.client.agent.world import contents
from tests.client.bundle.bundles import New
from tests.server import origins
from tests.server.memory import memory_folder
from tests.server.witnesses import Team, passphrase, policy_in

LINE = f"{hashlib.sha256(b'a file that only the target has').hexdigest()}:4711:Win.Special.Target-1-0".encode()
Prove = Callable[[bytes], Awaitable[bytes | None]]


@dataclass(frozen=True)
class Template:
    folder: Path
    now: datetime
    ports: dict[str, int]


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    """Two releases, cosigned by three witnesses of which two are asked for; dates are today's, for the client of python-tuf."""
    register()

    async def make(folder: Path) -> Template:
        now = now_utc()
        (folder / "witnesses").mkdir()
        team = Team(folder / "witnesses", now=now)
        await team.start()
        try:
            home = await origins.make(folder / "origin", now=now)
            await team.join(home, 2)
            for content in (origins.FIRST, origins.SECOND):
                await origins.release(home, content, now=now)
        finally:
            await team.stop()
        return Template(folder, now, team.ports)

    with memory_folder() as folder:
        yield asyncio.run(make(folder))


@dataclass
class World:
    """The real origin and its witnesses, all at work; whoever wants takes copies."""

    folder: Path
    now: datetime
    team: Team
    home: Home
    url: str = ""
    attacks: int = 0
    clients: int = 0

    async def endpoint(self, name: str) -> ClientDirectory:
        """An honest customer's endpoint in jp, up to date with the real origin."""
        directory = ClientDirectory(self.folder / name)
        directory.make()
        pinned = self.home.pinned_root()
        trusted.pin(directory, pinned)
        digest = hashlib.sha256(pinned).hexdigest()
        directory.write_config(Config("coldchain", "jp", "stable", digest, (self.url,), ROOT_POLICY))
        await self.follow(directory)
        return directory

    async def both(self) -> tuple[ClientDirectory, PlainClient]:
        """Our client and python-tuf's, up to date. Each attack has its own: what they accepted of one is not forgotten."""
        self.clients += 1
        plain = PlainClient(self.folder / f"plain-{self.clients}", self.home.pinned_root())
        honest = origins.read(self.home, "jp", now=self.now).release.bundle
        assert LINE not in await plain.lines(self.url, honest)
        return await self.endpoint(f"victim-{self.clients}"), plain

    async def follow(self, directory: ClientDirectory, url: str | None = None) -> int:
        settings = UpdateSettings(urls=[url] if url else None, now=lambda: self.now)
        return (await update(directory, settings)).release

    async def release(self) -> int:
        """The honest operator goes on."""
        return await origins.release(self.home, origins.THIRD, now=self.now)

    async def goes_on(self, victim: ClientDirectory) -> None:
        """From the honest origin the endpoint updates again, once its versions have passed those of the attacker's roles."""
        await self.release()
        number = await self.release()
        assert await self.follow(victim) == number
        assert LINE not in lines_of(victim)

    def copy(self) -> Home:
        """The origin with all its keys in the hands of the attacker."""
        self.attacks += 1
        return origins.copy(self.home, self.folder / f"coerced-{self.attacks}")

    async def attack(self, coerced: Home, prove: Prove) -> Special:
        return await special_release(coerced, origins.keyring(coerced), "jp", LINE, prove, now=self.now)

    async def monitor(self, name: str = "monitor") -> Report:
        """One run over the real origin."""
        settings = WatchSettings(self.url, root=self.home.pinned_root(), tries=1, now=lambda: self.now)
        return await watch(MonitorDirectory(self.folder / name), settings)


@pytest.fixture
async def world(template: Template) -> AsyncIterator[World]:
    with memory_folder() as folder:
        shutil.copytree(template.folder, folder / "world")
        team = Team(folder / "world" / "witnesses", now=template.now, ports=dict(template.ports))
        await team.start()
        home = Home(folder / "world" / "origin")
        try:
            async with running(home.storage) as origin:
                yield World(folder / "world", template.now, team, home, origin.url)
        finally:
            await team.stop()


def lines_of(directory: ClientDirectory) -> bytes:
    return b"".join(contents(directory).values())


# -- what the attacker shows for the log's proof ----------------------------------------------------------------------


async def log_in(home: Home) -> PublicLog:
    return PublicLog(home.storage, (await policy_in(home)).log_keys[0])


async def nothing(_: bytes) -> None:
    return None


def proof_of_another_release(home: Home) -> Prove:
    async def prove(_: bytes) -> bytes:
        state = await load_state(home.storage)
        target = state.delegated["jp"].signed.targets[f"jp/stable/{EVIDENCE}"]
        file = home.public / f"targets/jp/stable/{target.hashes['sha256']}.{EVIDENCE}"
        proof = read_evidence_file(file.read_bytes())[1]
        assert proof is not None
        return proof

    return prove


async def entered(home: Home, entry: bytes, cosign: Callable[[SignedNote], Awaitable[SignedNote]]) -> bytes:
    """The entry goes into the log of this copy, signed by the log's key; the proof has whatever cosignatures come."""
    log = await log_in(home)
    index, note = await log.append([entry], log_signer(origins.keyring(home), log.key))
    head = parse_checkpoint(note.text)
    cosigned = await cosign(note)
    await log.publish(cosigned)
    return OfflineProof(index, tuple(await log.inclusion(index, head)), cosigned).encode()


def asking_witnesses(home: Home, now: datetime, problems: list[str]) -> Callable[[SignedNote], Awaitable[SignedNote]]:
    """The true witnesses, over HTTP; what they refuse is noted."""

    async def cosign(note: SignedNote) -> SignedNote:
        log, head = await log_in(home), parse_checkpoint(note.text)
        cosigned, lacking = await HttpWitnesses().collect(
            note, await policy_in(home), lambda size: log.growth(size, head), {}, now
        )
        if lacking is not None:
            problems.append(lacking.what)
        return cosigned

    return cosign


def coercing_witnesses(team: Team) -> Callable[[SignedNote], Awaitable[SignedNote]]:
    """Every witness's own key signs, whatever it has seen before."""

    async def cosign(note: SignedNote) -> SignedNote:
        signed = []
        for name in team.names:
            home = team.home(name)
            signed.append(sign_text(note.text, home.key, home.signer(passphrase), int(team.now.timestamp())))
        return SignedNote(note.text, (*note.signatures, *signed))

    return cosign


async def rewritten(home: Home, kept: int, *others: bytes) -> None:
    """The log of this copy holds only the first entries, and others after them."""
    log = await log_in(home)
    _, entries = await log.last_entries(await log.checkpoint())
    shutil.rmtree(home.public / "log")
    await log.append([*entries[:kept], *others], log_signer(origins.keyring(home), log.key))


# -- the plain client -------------------------------------------------------------------------------------------------


class PlainClient:
    """python-tuf's own client with the pinned root, and nothing else: what a good TUF client does."""

    def __init__(self, folder: Path, pinned: bytes) -> None:
        self.folder, self.pinned = folder, pinned
        folder.mkdir()

    def _fetch(self, url: str) -> bytes:
        updater = Updater(
            str(self.folder / "metadata"),
            f"{url}/metadata/",
            str(self.folder),
            f"{url}/targets/",
            bootstrap=self.pinned,
        )
        updater.refresh()
        info = updater.get_targetinfo("jp/stable/full.ccd")
        assert info is not None
        return Path(updater.download_target(info, str(self.folder / "full.ccd"))).read_bytes()

    async def lines(self, url: str, bundle: str) -> bytes:
        """All lines of the bundle that it takes from there, which must be the one with this digest."""
        data = await asyncio.to_thread(self._fetch, url)
        new = New(None)
        apply_delta(BytesIO(data), None, new, expected=bundle)
        return b"".join(new.sections.values())

    async def takes(self, url: str, special: Special) -> None:
        """It stood on an honest release before, so that rollback protection has had its say, too."""
        assert LINE in await self.lines(url, special.bundle)


async def refused(world: World, victim: ClientDirectory, url: str, match: str) -> EvidenceError:
    """With exit code 16, and what is installed keeps running."""
    before = contents(victim)
    with pytest.raises(EvidenceError, match=match) as caught:
        await world.follow(victim, url)
    assert caught.value.exit_code == 16
    assert contents(victim) == before
    assert LINE not in lines_of(victim)
    return caught.value


# -- the cases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: nothing, "comes without a proof that the public log holds it"),
        (proof_of_another_release, "is not under this root"),
    ],
    ids=["no proof", "another release's proof"],
)
async def test_without_an_entry_the_special_release_is_refused(
    world: World, make: Callable[[Home], Prove], words: str
) -> None:
    victim, plain = await world.both()
    coerced = world.copy()
    special = await world.attack(coerced, make(coerced))
    assert special.number == 3
    async with running(coerced.storage) as origin:
        await refused(world, victim, origin.url, words)
        await plain.takes(origin.url, special)
    assert (await world.monitor()).alerts == []
    await world.goes_on(victim)


async def test_a_forked_log_gets_no_cosignature(world: World) -> None:
    """The honest log has gone on; the attacker's copy has another third entry, signed with the log's own key."""
    victim, plain = await world.both()
    coerced = world.copy()
    await world.release()
    problems: list[str] = []

    async def prove(data: bytes) -> bytes:
        return await entered(coerced, data, asking_witnesses(coerced, world.now, problems))

    special = await world.attack(coerced, prove)
    assert len(problems) == 1
    assert all(name in problems[0] for name in world.team.names), problems
    async with running(coerced.storage) as origin:
        await refused(world, victim, origin.url, "no quorum of witnesses")
        await plain.takes(origin.url, special)
    # the attacker's own program would not even have signed that fork
    number = (await origins.only_build(coerced, origins.FIRST, now=world.now)).number
    with pytest.raises(StateError, match="the log has forked"):
        await origins.log_built(coerced, number, now=world.now)
    await world.goes_on(victim)


@pytest.mark.parametrize("size", [3, 4, 5])
async def test_with_all_witnesses_coerced_the_remembered_checkpoint_catches_the_fork(world: World, size: int) -> None:
    """The fork is as long as the true log, or longer. Only what the endpoint itself has seen stands against it."""
    await world.release()
    victim, plain = await world.both()
    remembered = (victim.metadata / "checkpoint").read_bytes()
    coerced = world.copy()

    async def prove(data: bytes) -> bytes:
        await rewritten(coerced, 2, *(b"hidden %d" % number for number in range(size - 3)))
        return await entered(coerced, data, coercing_witnesses(world.team))

    special = await world.attack(coerced, prove)
    assert special.number == 4
    async with running(coerced.storage) as origin:
        error = await refused(world, victim, origin.url, "two different stories")
        await plain.takes(origin.url, special)
        # both signed checkpoints are kept: proof against the log, for anybody
        kept = (victim.metadata / "fork.txt").read_bytes()
        assert "fork.txt" in error.todo
        assert remembered in kept
        other = (coerced.public / "log" / "checkpoint").read_bytes()
        assert other in kept
        key = (await log_in(world.home)).key
        one, two = (open_checkpoint(parse_note(note), [key]).checkpoint for note in (remembered, other))
        assert (one.size, two.size) == (3, size)
        # control: an endpoint that has seen nothing yet believes the coerced witnesses, all of them
        newcomer = ClientDirectory(world.folder / "newcomer")
        newcomer.make()
        trusted.pin(newcomer, world.home.pinned_root())
        config = victim.config()
        newcomer.write_config(config)
        assert await world.follow(newcomer, origin.url) == 4
        assert LINE in lines_of(newcomer)
    await world.goes_on(victim)


async def logged_in_public(world: World, coerced: Home) -> Special:
    """The special release's entry goes into the log that the witnesses follow: they cannot tell it from an honest one."""
    problems: list[str] = []

    async def prove(data: bytes) -> bytes:
        return await entered(coerced, data, asking_witnesses(coerced, world.now, problems))

    special = await world.attack(coerced, prove)
    assert problems == []
    return special


def named(report: Report, *words: str) -> list[str]:
    """The kinds of the alerts that say all of this."""
    return [one.kind for one in report.alerts if all(word in one.what for word in words)]


async def test_in_the_true_log_it_is_accepted_and_the_monitor_names_it(world: World) -> None:
    assert (await world.monitor()).alerts == []
    victim, plain = await world.both()
    coerced = world.copy()
    special = await logged_in_public(world, coerced)
    async with running(coerced.storage) as origin:
        assert await world.follow(victim, origin.url) == 3
        assert LINE in lines_of(victim)
        await plain.takes(origin.url, special)
    # hidden: the real origin shows the log without the entry, and its witnesses contradict it
    hidden = await world.monitor()
    assert hidden.error is not None
    assert "backwards" in {one.kind for one in hidden.alerts}, hidden.alerts
    # and it cannot go on: its own program finds that the witnesses hold more
    await origins.only_build(world.home, origins.THIRD, now=world.now)
    with pytest.raises(StateError, match="holds 3, signed by this log's own key"):
        await origins.log_built(world.home, 3, now=world.now)
    # shown: everybody reads the entry
    shutil.copytree(coerced.public / "log", world.home.public / "log", dirs_exist_ok=True)
    shown = await world.monitor()
    assert shown.size == 3
    assert named(shown, "release 3 of stable (entry 2), region jp") == ["bundle-missing"], shown.alerts


async def test_with_its_bundle_published_the_monitor_says_what_differs(world: World) -> None:
    await world.monitor()
    coerced = world.copy()
    special = await logged_in_public(world, coerced)
    shutil.copytree(coerced.public / "log", world.home.public / "log", dirs_exist_ok=True)
    for folder in ("targets", "manifests"):
        shutil.copytree(coerced.public / folder, world.home.public / folder, dirs_exist_ok=True)
    report = await world.monitor()
    words = (
        "release 3 of stable (entry 2)",
        "only jp has 'Win.Special.Target-1-0', and no policy says so",
        LINE.decode(),
    )
    assert named(report, *words) == ["regions-differ"], report.alerts
    # the honest release has the same number, and stands beside it for ever
    assert await origins.release(world.home, origins.THIRD, now=world.now) == 3
    after = await world.monitor()
    assert named(after, "release 3", hashlib.sha256(special.manifest).hexdigest()[:16]) == ["duplicate"]
