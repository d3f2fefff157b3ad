"""Where everything is: every store read whole, and held against regions.toml, the moves on their way, and the public log.

::

    stores    all that regions.toml names, and all that were ever made, each opened and read: what lies there, of which regions
    log       every entry about a move, proved to be under the published checkpoint and its quorum by the client's own code
    moves     what a finished move's file says is what its entry says

Nothing is believed that was not read just now. What does not fit is a problem, in words: reports where neither regions.toml nor a move
puts them, a store that is away or damaged (it may hold anything), a region that regions.toml has elsewhere than its last entry in the
log, a store that is said to lie in another jurisdiction than then. Without problems it is shown that each region's reports are in its
store and nowhere else here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from coldchain.canonical import JSON, Object
from coldchain.errors import ColdchainError, NewerFormatError, ResidencyError, VerificationError
from coldchain.residency import Move, Places, is_move, parse_move
from coldchain.tlog.checkpoint import parse_checkpoint
from coldchain.tlog.offline import verify_proof
from coldchain.tlog.policy import Policy
from coldchain.tlog.proof import OfflineProof
from coldchain_server.assembly.regions import Regions
from coldchain_server.home import Home
from coldchain_server.log.public_log import PublicLog
from coldchain_server.release.log import Witnesses
from coldchain_server.reports.copying import total
from coldchain_server.reports.move import mover
from coldchain_server.reports.moving import Moving, Total, all_moved, all_moving, explained
from coldchain_server.reports.stores import made_stores, open_store, store_directory
from coldchain_server.signing.log_policy import policy_of
from coldchain_server.signing.roles import load_state


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store keeps of a region. ``state`` is ``counted``, ``copy`` (a move is on its way) or ``stray``."""

    region: str
    state: str
    total: Total

    def as_json(self) -> Object:
        """Its members."""
        return {"region": self.region, "state": self.state, **self.total.as_json()}


@dataclass(slots=True)
class StoreSeen:
    """A store: ``directory`` is None when nothing was ever kept there."""

    name: str
    jurisdiction: str
    directory: Path | None
    kept: list[Kept] = field(default_factory=list)
    problem: str = ""

    def as_json(self) -> Object:
        """Its members."""
        return {
            "store": self.name,
            "jurisdiction": self.jurisdiction,
            "directory": None if self.directory is None else str(self.directory),
            "regions": [one.as_json() for one in self.kept],
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class LoggedMove:
    """A move in the log: its index, the witnesses whose cosignatures count, and the totals at the switch where they are known."""

    index: int
    move: Move
    size: int
    witnesses: tuple[str, ...]
    final: Total | None

    def as_json(self) -> Object:
        """Its members."""
        move = self.move
        return {
            "index": self.index,
            "size": self.size,
            "witnesses": list(self.witnesses),
            "region": move.region,
            "old_names": list(move.old_names),
            "from": {"store": move.source.store, "jurisdiction": move.source.jurisdiction},
            "to": {"store": move.target.store, "jurisdiction": move.target.jurisdiction},
            "reports": move.reports,
            "rows": move.rows,
            "sha256": move.sha256,
            "time": move.time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "at_switch": self.final.as_json() if self.final else None,
        }


@dataclass(slots=True)
class Whereabouts:
    """What was found."""

    regions: dict[str, str]
    stores: list[StoreSeen] = field(default_factory=list)
    moves: list[LoggedMove] = field(default_factory=list)
    moving: list[Moving] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> Object:
        """For ``--json``."""
        moving: list[JSON] = [
            {"region": one.region, "from": one.source, "to": one.target, "step": one.step, "index": one.index}
            for one in self.moving
        ]
        return {
            "regions": dict(self.regions),
            "stores": [one.as_json() for one in self.stores],
            "moves": [one.as_json() for one in self.moves],
            "moving": moving,
            "problems": list(self.problems),
        }

    def lines(self) -> list[str]:
        """For a person."""
        lines = []
        for store in self.stores:
            where = store.problem or (str(store.directory) if store.directory else "nothing was ever kept there")
            lines.append(f"store {store.name} ({store.jurisdiction}): {where}")
            for one in store.kept:
                note = {"counted": "", "copy": ", not counted: its move is on its way", "stray": ", MUST NOT BE HERE"}
                found = f"{one.total.reports:,} reports in {one.total.rows:,} rows, sha256 {one.total.sha256[:16]}…"
                lines.append(f"  {one.region:6} {found}{note[one.state]}")
        lines += [f"region {region}: kept in store {store}" for region, store in self.regions.items()]
        for moving in self.moving:
            lines.append(f"moving {moving.region}: from {moving.source} to {moving.target}, {moving.step}")
        for logged in self.moves:
            seen = f"cosigned by {', '.join(logged.witnesses)}" if logged.witnesses else "no witness is asked for"
            lines.append(f"log entry {logged.index} of {logged.size}, {seen}: {logged.move}")
            if logged.final is not None and logged.final != Total(
                logged.move.reports, logged.move.rows, logged.move.sha256
            ):
                lines.append(
                    f"  with what came until the switch: {logged.final.reports:,} reports, {logged.final.rows:,} rows"
                )
        lines += [f"PROBLEM {text}" for text in self.problems]
        if not self.problems:
            lines.append("every report is in its region's store and nowhere else")
        return lines

    @property
    def error(self) -> ResidencyError | None:
        """What to end with; None when all is where it must be."""
        if not self.problems:
            return None
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return ResidencyError(
            f"{self.problems[0]}{more}",
            kept="everything; nothing was changed",
            todo="docs/residency.md says what to do",
            found=self.as_json(),
        )


async def whereabouts(home: Home, now: datetime, witnesses: Witnesses | None = None) -> Whereabouts:
    """Reads every store and the log.

    Args:
        home: the origin.
        now: the time.
        witnesses: asked, too, whether the log here is the one that they hold, and every store's file is checked; None for neither.

    Raises:
        UsageError: regions.toml is not in order.
        BusyError: something does not fit, and reports are being moved right now.
        StorageError: the log, or what is known of moves, cannot be read.
    """
    found = await _look(home, now, witnesses)
    if found.problems:  # they may have been seen between two steps of a move that ended just now
        _nobody_moves(home)
        found = await _look(home, now, witnesses)
    if found.problems:
        _nobody_moves(home)
    return found


def _nobody_moves(home: Home) -> None:
    """Raises BusyError while reports are being moved."""
    with mover(home):
        pass


async def _look(home: Home, now: datetime, witnesses: Witnesses | None) -> Whereabouts:
    regions = home.regions()
    found = Whereabouts({name: one.residency for name, one in regions.regions.items()}, moving=all_moving(home))
    made = made_stores(home)
    for name in dict.fromkeys([*regions.store_names(), *made]):
        found.stores.append(_store(home, regions, name, name in made, deep=witnesses is not None))
    for store in found.stores:
        found.problems += [store.problem] if store.problem else []
        found.problems += [
            f"store {store.name} holds {one.total.reports:,} reports of {one.region}, {_belongs(found, one.region)}"
            for one in store.kept
            if one.state == "stray"
        ]
    await _log(home, found, now, witnesses)
    return found


def _belongs(found: Whereabouts, region: str) -> str:
    return (
        f"which belong in {found.regions[region]}" if region in found.regions else "which is no region of regions.toml"
    )


def _store(home: Home, regions: Regions, name: str, made: bool, *, deep: bool) -> StoreSeen:
    seen = StoreSeen(name, regions.store(name).jurisdiction, None)
    if not made:
        return seen
    try:
        seen.directory = store_directory(home, name, regions)
        with open_store(home, name, frozenset(), regions) as store:
            if deep and not store.sound():
                seen.problem = f"the file of store {name} is damaged"
                return seen
            for region in store.regions():
                residency = regions.regions[region].residency if region in regions.regions else ""
                copy = bool(residency) and explained(home, region, residency, name)
                state = "counted" if residency == name else "copy" if copy else "stray"
                seen.kept.append(Kept(region, state, total(store, [region])))
    except ColdchainError as error:
        seen.problem = f"store {name} cannot be read, and may hold anything: {error.what}"
    return seen


async def _log(home: Home, found: Whereabouts, now: datetime, witnesses: Witnesses | None) -> None:
    """The log's word about moves, and whether it is also what regions.toml and the finished moves say."""
    policy = policy_of(await load_state(home.storage))
    log = PublicLog(home.storage, policy.log_keys[0])
    if witnesses is not None:
        head = await log.checkpoint()
        try:
            await witnesses.check_not_behind(policy, log.key, head.size, log.root_at)
        except ColdchainError as error:
            found.problems.append(f"the log here is not the one that the witnesses hold: {error.what}")
    finished = {one.index: one for one in all_moved(home)}
    underway = {name for one in found.moving for name in one.names}
    places, product = Places(), home.settings().product
    jurisdictions: dict[str, str] = {}
    for index, move, entry in await _moves(log, found):
        jurisdictions |= {place.store: place.jurisdiction for place in (move.source, move.target)}
        again, problems = places.take(move)
        found.problems += [f"log entry {index}: {problem}" for problem in problems]
        if move.product != product:
            found.problems.append(f"log entry {index} is about product {move.product}")
        record = finished.pop(index, None)
        if record is not None and record.entry != entry:
            found.problems.append(f"the file of the move that entry {index} states says something else")
        if again:
            continue
        try:
            size, names = await _proved(log, policy, index, entry, now)
        except ColdchainError as error:
            if not underway & set(move.names):
                found.problems.append(f"log entry {index}: {error.what}")
            continue
        found.moves.append(LoggedMove(index, move, size, names, record.final if record else None))
    found.problems += [
        f"the log says that store {store.name} lies in {stated}; regions.toml says {store.jurisdiction}"
        for store in found.stores
        if (stated := jurisdictions.get(store.name, store.jurisdiction)) != store.jurisdiction
    ]
    found.problems += [f"a move was finished whose entry {index} is none in the log" for index in finished]
    for region, (store, _) in places.stores.items():
        configured = found.regions.get(region)
        if configured != store and region not in underway:
            found.problems.append(
                f"the log says that the reports of {region} went to store {store}; regions.toml says {configured or 'nothing of it'}"
            )


async def _moves(log: PublicLog, found: Whereabouts) -> list[tuple[int, Move, bytes]]:
    moves = []
    async for index, entry in log.entries(await log.checkpoint()):
        if not is_move(entry):
            continue
        try:
            moves.append((index, parse_move(entry), entry))
        except (VerificationError, NewerFormatError) as error:
            found.problems.append(f"log entry {index}: {error.what}")
    return moves


async def _proved(
    log: PublicLog, policy: Policy, index: int, entry: bytes, now: datetime
) -> tuple[int, tuple[str, ...]]:
    """The published checkpoint's size, and the witnesses that count; the client's code checks the proof. Raises ColdchainError."""
    note = await log.published()
    if note is None or parse_checkpoint(note.text).size <= index:
        raise ResidencyError("no published checkpoint covers it")
    head = parse_checkpoint(note.text)
    proof = OfflineProof(index, tuple(await log.inclusion(index, head)), note)
    verified = verify_proof(entry, proof.encode(), policy, now)
    return head.size, tuple(verified.head.verdict.counted)
