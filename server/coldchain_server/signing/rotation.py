"""Changing a role's keys, without a moment in which a client sees a state it would refuse.

Top-level roles: where old keys are at hand, everything the change touches is signed by the old *and* the new keys; it goes out
first, and the new root that swears in the new keys goes out last. A crash in between leaves the old keys in force and files that
verify under both. Delegated roles: the new top-level targets and the roles signed by the new keys come into force together, with the
timestamp that names them.

Where too few old keys are left (lost, stolen and destroyed), the new root must come first; endpoints then see roles they refuse
until the rest has followed, and keep what they have. The command says so and can be run again.

Worked example, ``rotate(state, keyring, storage, "timestamp", now=now)``: key ``timestamp-v2`` is made; timestamp N+1 is signed by
``timestamp`` and ``timestamp-v2``; root 2, signed by two of the root keys, names ``timestamp-v2`` alone.

A role that has expired is no obstacle to mending another one (:func:`~coldchain_server.signing.roles.mending_moment`).

Source: The Update Framework specification 1.0.34, section 6 (key management and migration).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root, Targets

from coldchain.errors import KeyringError, StateError, UsageError
from coldchain_server.signing.ceremony import KEYS, THRESHOLDS, TOP_LEVEL, delegations
from coldchain_server.signing.key_files import MODERATE, Strength
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.log_policy import LOG_KEY, complete_policy, note_key, policy_of, root_member
from coldchain_server.signing.packs import drop_old_packs, put_packs
from coldchain_server.signing.roles import (
    LIVES,
    ROLLOUT,
    RoleState,
    check_as_client,
    empty_region_role,
    encode,
    files_of,
    in_time,
    mending_moment,
    next_snapshot,
    next_timestamp,
    put_state,
    sign,
)
from coldchain_server.storage.interface import Storage

ROTATABLE: Final = (*TOP_LEVEL, "region", ROLLOUT)
_SIGN_WITH: Final = {
    "root": ("root",),
    "targets": ("root", "snapshot", "timestamp"),
    "snapshot": ("root", "timestamp"),
    "timestamp": ("root",),
}
"""What else must sign when the keys of a top-level role change."""


def role_signers(state: RoleState, keyring: Keyring, role: str) -> list[Signer]:
    """As many of a role's keys as its threshold asks for. Raises KeyringError when fewer are here."""
    keyids, threshold = state.keyids(role)
    return keyring.signers(keyids, threshold, f"role {role}")


def next_key_names(state: RoleState, keyring: Keyring, role: str) -> list[str]:
    """Fresh names for a role's keys, ``root-1-v3``: the ceremony's with the version of the delegator that swears them in.

    So a name is not used again when its file was carried away. Where a rotation died before that version came, the next number.
    """
    delegator = state.root if role in TOP_LEVEL else state.targets
    number: int = delegator.signed.version + 1
    for base in KEYS[role]:
        taken = [int(found[1]) for name in keyring.files() if (found := re.fullmatch(rf"{base}-v([0-9]+)", name))]
        number = max([number, *(one + 1 for one in taken)])
    return [f"{base}-v{number}" for base in KEYS[role]]


async def rotate(
    state: RoleState, keyring: Keyring, storage: Storage, role: str, *, now: datetime, strength: Strength = MODERATE
) -> list[str]:
    """Replaces all keys of a role, publishes the change, and returns the new keys' names.

    Args:
        state: the published state; the caller holds the publisher's lock.
        keyring: must hold the delegator's keys (root, or targets for delegated roles).
        storage: the published tree.
        role: one of :data:`ROTATABLE`; ``region`` means all region roles.
        now: the time of signing.
        strength: of the new key files.

    Raises:
        UsageError: no such role.
        KeyringError: the delegator's keys are not here.
        VerificationError: a client would refuse the outcome; nothing was published.
    """
    if role not in ROTATABLE:
        raise UsageError(f"{role!r} has no keys of its own", todo="roles are " + ", ".join(ROTATABLE))
    names = next_key_names(state, keyring, role)
    for other in _SIGN_WITH.get(role, ("targets", "snapshot", "timestamp")):
        role_signers(state, keyring, other)  # before anything is made: a key file nobody swears in helps nobody
    made = keyring.create(names, strength)
    if role in TOP_LEVEL:
        await _rotate_top_level(state, keyring, storage, role, made, now)
    else:
        await _rotate_delegated(state, keyring, storage, role, made, now)
    return names


def _old_signers(state: RoleState, keyring: Keyring, role: str) -> list[Signer]:
    try:
        return role_signers(state, keyring, role)
    except KeyringError:
        return []


async def _rotate_top_level(
    state: RoleState, keyring: Keyring, storage: Storage, role: str, made: Mapping[str, Key], now: datetime
) -> None:
    root = _next_root(state.root, role, list(made.values()), now)
    new = [keyring.signer(name) for name in made][: THRESHOLDS[role]]
    old = _old_signers(state, keyring, role)
    root_signers = role_signers(state, keyring, "root")
    sign(root, [*root_signers, *(new if role == "root" else [])])
    root_file = {f"metadata/{root.signed.version}.root.json": encode(root)}
    roles = _resigned(state, keyring, role, [*old, *new], now)
    files = files_of(roles)
    moment = mending_moment(state, {"root", *roles}, now)
    found = await check_as_client(storage, {**files, **root_file}, in_time(state, (), moment), moment)
    if "snapshot" in roles:
        await put_packs(storage, state, found, {**files, **root_file})
    if old or role == "root":
        await put_state(storage, {**files, **root_file})
    else:
        await put_state(storage, {**root_file, **files})
    await drop_old_packs(storage, found.snapshot.version)


def _next_root(current: Metadata[Root], role: str, keys: list[Key], now: datetime) -> Metadata[Root]:
    signed = copy.deepcopy(current.signed)
    signed.version += 1
    signed.expires = now + LIVES["root"]
    for keyid in list(signed.roles[role].keyids):
        signed.revoke_key(keyid, role)
    for key in keys:
        signed.add_key(key, role)
    return Metadata(signed)


def _resigned(
    state: RoleState, keyring: Keyring, role: str, signers: list[Signer], now: datetime
) -> dict[str, Metadata[Any]]:
    """The next version of what a top-level role signs, with snapshot and timestamp following it."""

    def of(name: str) -> list[Signer]:
        return signers if name == role else role_signers(state, keyring, name)

    if role == "root":
        return {}
    roles: dict[str, Metadata[Any]] = {}
    if role == "targets":
        targets = _next_targets(state.targets, now)
        sign(targets, signers)
        roles["targets"] = targets
    snapshot = state.snapshot
    if role in ("targets", "snapshot"):
        snapshot = next_snapshot(state, roles, now)
        sign(snapshot, of("snapshot"))
        roles["snapshot"] = snapshot
    timestamp = next_timestamp(state, snapshot, now)
    sign(timestamp, of("timestamp"))
    return {**roles, "timestamp": timestamp}


def _next_targets(current: Metadata[Targets], now: datetime) -> Metadata[Targets]:
    signed = copy.deepcopy(current.signed)
    signed.version += 1
    signed.expires = now + LIVES["targets"]
    return Metadata(signed)


async def _rotate_delegated(
    state: RoleState, keyring: Keyring, storage: Storage, role: str, made: Mapping[str, Key], now: datetime
) -> None:
    region_keys, rollout_keys = _delegated_keys(state, "region"), _delegated_keys(state, ROLLOUT)
    names = [ROLLOUT] if role == ROLLOUT else [name for name in state.delegated if name != ROLLOUT]
    if role == ROLLOUT:
        rollout_keys = list(made.values())
    else:
        region_keys = list(made.values())
    new = [keyring.signer(name) for name in made][: THRESHOLDS[role]]
    targets = _next_targets(state.targets, now)
    targets.signed.delegations = delegations(
        [name for name in state.delegated if name != ROLLOUT], region_keys, rollout_keys
    )
    changed: dict[str, Metadata[Targets]] = {"targets": targets}
    for name in names:
        signed = copy.deepcopy(state.delegated[name].signed)
        signed.version += 1
        signed.expires = now + LIVES[role]
        changed[name] = Metadata(signed)
        sign(changed[name], new)
    sign(targets, role_signers(state, keyring, "targets"))
    await publish_roles(state, keyring, storage, changed, now, mend=True)


def _delegated_keys(state: RoleState, role: str) -> list[Key]:
    chain = state.targets.signed.delegations
    assert chain is not None
    assert chain.roles is not None
    name = ROLLOUT if role == ROLLOUT else next(name for name in chain.roles if name != ROLLOUT)
    return [chain.keys[keyid] for keyid in chain.roles[name].keyids]


async def publish_roles(
    state: RoleState,
    keyring: Keyring,
    storage: Storage,
    changed: Mapping[str, Metadata[Targets]],
    now: datetime,
    *,
    mend: bool = False,
) -> None:
    """Publishes signed roles with a new snapshot, its packs and a timestamp, after the client's own code has walked the new state.

    Args:
        state: the published state; the caller holds the publisher's lock.
        keyring: must hold the keys of snapshot and timestamp.
        storage: the published tree.
        changed: the new versions by role name, signed.
        now: the time of signing.
        mend: go on though root or targets have expired: these roles' turn is another time.

    Raises:
        VerificationError: a client would refuse the new state; nothing was published.
    """
    snapshot = next_snapshot(state, changed, now)
    sign(snapshot, role_signers(state, keyring, "snapshot"))
    timestamp = next_timestamp(state, snapshot, now)
    sign(timestamp, role_signers(state, keyring, "timestamp"))
    files = files_of({**changed, "snapshot": snapshot, "timestamp": timestamp})
    moment = mending_moment(state, {*changed, "snapshot", "timestamp"}, now) if mend else now
    found = await check_as_client(storage, files, in_time(state, changed, moment), moment)
    await put_packs(storage, state, found, files)
    await put_state(storage, files)
    await drop_old_packs(storage, found.snapshot.version)


async def renew(state: RoleState, keyring: Keyring, storage: Storage, *, now: datetime, every: float) -> list[str]:
    """Signs anew what is about to expire: timestamp every ``every`` seconds, snapshot and rollout at half their lives.

    Returns the names of the roles signed, empty when nothing was due. The caller holds the publisher's lock. Roles with offline keys
    are not touched; :func:`expiring` names them.
    """
    changed: dict[str, Metadata[Targets]] = {}
    rollout = state.delegated[ROLLOUT]
    if rollout.signed.expires - now < LIVES[ROLLOUT] / 2:
        changed[ROLLOUT] = state.next_rollout(now)
        sign(changed[ROLLOUT], role_signers(state, keyring, ROLLOUT))
    if changed or state.snapshot.signed.expires - now < LIVES["snapshot"] / 2:
        await publish_roles(state, keyring, storage, changed, now, mend=True)
        return [*changed, "snapshot", "timestamp"]
    age = LIVES["timestamp"] - (state.timestamp.signed.expires - now)
    if age.total_seconds() < every:
        return []
    timestamp = next_timestamp(state, state.snapshot, now)
    sign(timestamp, role_signers(state, keyring, "timestamp"))
    files = files_of({"timestamp": timestamp})
    moment = mending_moment(state, {"timestamp"}, now)
    await check_as_client(storage, files, in_time(state, (), moment), moment)
    await put_state(storage, files)
    return ["timestamp"]


def expiring(state: RoleState, now: datetime) -> list[str]:
    """Sentences about roles whose keys a person must bring within the last sixth of their lives."""
    found = []
    offline: dict[str, Metadata[Any]] = {"root": state.root, "targets": state.targets}
    regions = {name: role for name, role in state.delegated.items() if name != ROLLOUT}
    for name, role in {**offline, **regions}.items():
        left = role.signed.expires - now
        if left < LIVES[name if name in LIVES else "region"] / 6:
            todo = f"coldchain-server keys renew {name}" if name in offline else "publish a release"
            when = f"expires in {left.days} days" if left.total_seconds() > 0 else "has expired, endpoints refuse it"
            found.append(f"role {name} {when}: {todo}")
    return found


async def renew_offline(state: RoleState, keyring: Keyring, storage: Storage, role: str, *, now: datetime) -> None:
    """A new version of root or targets with the same keys and a new life. Raises KeyringError when their keys are not here."""
    if role == "root":
        await _publish_root(state, keyring, storage, copy.deepcopy(state.root.signed), now)
        return
    if role != "targets":
        raise UsageError(f"{role!r} is renewed by the server itself, or by a release", todo="renew root or targets")
    targets = _next_targets(state.targets, now)
    sign(targets, role_signers(state, keyring, "targets"))
    await publish_roles(state, keyring, storage, {"targets": targets}, now, mend=True)


async def _publish_root(state: RoleState, keyring: Keyring, storage: Storage, signed: Root, now: datetime) -> None:
    """The next root, with the same keys."""
    signed.version += 1
    signed.expires = now + LIVES["root"]
    root = Metadata(signed)
    sign(root, role_signers(state, keyring, "root"))
    files = {f"metadata/{signed.version}.root.json": encode(root)}
    moment = mending_moment(state, {"root"}, now)
    await check_as_client(storage, files, in_time(state, (), moment), moment)
    await put_state(storage, files)


async def set_log_policy(
    state: RoleState,
    keyring: Keyring,
    storage: Storage,
    lines: bytes,
    *,
    log_name: str,
    now: datetime,
    strength: Strength = MODERATE,
) -> bytes:
    """Publishes a new root that carries another log policy; returns the whole policy.

    Args:
        state: the published state; the caller holds the publisher's lock.
        keyring: must hold a threshold of root keys, and the log's key, which is made if there is none.
        storage: the published tree.
        lines: the operator's lines: witnesses, groups, quorum.
        log_name: the log's name, if the root names none for its key yet.
        now: the time of signing.
        strength: of the log's key file, if it is made.

    Raises:
        UsageError: they are no policy.
        KeyringError: too few root keys are here.
    """
    if LOG_KEY not in keyring.files():
        keyring.create([LOG_KEY], strength)
    public = keyring.public(LOG_KEY)
    try:
        names = [known.name for known in policy_of(state).log_keys if known == note_key(known.name, public)]
    except StateError:
        names = []
    policy = complete_policy(note_key((names or [log_name])[0], public), lines)
    signed = copy.deepcopy(state.root.signed)
    signed.unrecognized_fields["coldchain"] = root_member(policy)
    await _publish_root(state, keyring, storage, signed, now)
    return policy


async def add_regions(
    state: RoleState, keyring: Keyring, storage: Storage, regions: Iterable[str], *, product: str, now: datetime
) -> list[str]:
    """Swears in roles for regions that have none yet; returns their names. A role never goes: clients follow it by name."""
    new = [name for name in regions if name not in state.delegated]
    if not new:
        return []
    region_keys, rollout_keys = _delegated_keys(state, "region"), _delegated_keys(state, ROLLOUT)
    known = [name for name in state.delegated if name != ROLLOUT]
    targets = _next_targets(state.targets, now)
    targets.signed.delegations = delegations([*known, *new], region_keys, rollout_keys)
    sign(targets, role_signers(state, keyring, "targets"))
    changed: dict[str, Metadata[Targets]] = {"targets": targets}
    need = THRESHOLDS["region"]
    for name in new:
        changed[name] = empty_region_role(product, name, now)
        sign(changed[name], keyring.signers([key.keyid for key in region_keys], need, f"role {name}"))
    facts: dict[str, Any] = {**state.rollout(), **{name: {} for name in new}}
    rollout = state.next_rollout(now, facts)
    sign(rollout, role_signers(state, keyring, ROLLOUT))
    changed[ROLLOUT] = rollout
    await publish_roles(state, keyring, storage, changed, now)
    return new
