"""The key ceremony: all keys of an origin, and the first version of every role.

::

    role                       keys                                        threshold   where they belong afterwards
    root                       root-1 root-2 root-3                        2           offline, three places
    targets                    targets-1 targets-2 targets-3               2           offline
    each region role           assembler, approver-1, approver-2           2           assembler online in the neutral region,
                                                                                       approvers in other jurisdictions
    rollout                    rollout                                     1           online
    snapshot, timestamp        snapshot, timestamp                         1           online

Root version 1 is what customers pin. Everything is signed before anything is written, and checked with the client's code.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from coldchain_server.signing.key_files import MODERATE, Strength
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.log_policy import (
    LOG_KEY,
    NO_WITNESS,
    check_log_name,
    complete_policy,
    note_key,
    root_member,
)
from coldchain_server.signing.roles import (
    LIVES,
    ROLLOUT,
    check_as_client,
    empty_region_role,
    files_of,
    put_state,
    rollout_role,
    sign,
)
from coldchain_server.storage.interface import Storage

KEYS: Final = {
    "root": ("root-1", "root-2", "root-3"),
    "targets": ("targets-1", "targets-2", "targets-3"),
    "region": ("assembler", "approver-1", "approver-2"),
    ROLLOUT: (ROLLOUT,),
    "snapshot": ("snapshot",),
    "timestamp": ("timestamp",),
}
THRESHOLDS: Final = {"root": 2, "targets": 2, "region": 2, ROLLOUT: 1, "snapshot": 1, "timestamp": 1}
TOP_LEVEL: Final = ("root", "targets", "snapshot", "timestamp")


def delegations(
    regions: Sequence[str],
    region_keys: Sequence[Key],
    rollout_keys: Sequence[Key],
    thresholds: dict[str, int] | None = None,
) -> Delegations:
    """The top-level targets' delegations: one terminating role per region, and the rollout.

    Args:
        regions: their names.
        region_keys: keys of every region role.
        rollout_keys: keys of the rollout role.
        thresholds: ``region`` and ``rollout``; the ceremony's when None.
    """
    need = thresholds or THRESHOLDS
    roles = {
        name: DelegatedRole(
            name, [key.keyid for key in region_keys], need["region"], terminating=True, paths=[f"{name}/*/*"]
        )
        for name in regions
    }
    roles[ROLLOUT] = DelegatedRole(
        ROLLOUT, [key.keyid for key in rollout_keys], need[ROLLOUT], terminating=True, paths=[f"{ROLLOUT}/*"]
    )
    return Delegations({key.keyid: key for key in [*region_keys, *rollout_keys]}, roles)


async def hold_ceremony(
    keyring: Keyring,
    storage: Storage,
    regions: Sequence[str],
    *,
    product: str,
    now: datetime,
    log_name: str = "coldchain-log",
    policy: bytes = NO_WITNESS,
    strength: Strength = MODERATE,
) -> bytes:
    """Makes the keys and publishes version 1 of every role.

    Args:
        keyring: takes the key files; none of the ceremony's may exist.
        storage: the published tree, empty.
        regions: names of the region roles.
        product: the product's name.
        now: when the roles' lives begin.
        log_name: of the public log, its origin for ever.
        policy: the witnesses, groups and quorum that customers are told to ask for.
        strength: of the passphrase's stretching.

    Returns:
        Root version 1, which customers pin.

    Raises:
        UsageError: the log's name or the policy is none.
        KeyringError: a key exists already or cannot be written.
        StorageError: the tree cannot be written.
    """
    check_log_name(log_name)  # before keys are made
    keys = keyring.create([*(name for names in KEYS.values() for name in names), LOG_KEY], strength)
    whole_policy = complete_policy(note_key(log_name, keys[LOG_KEY]), policy)
    by_role = {role: [keys[name] for name in names] for role, names in KEYS.items()}
    root = Root(
        version=1,
        expires=now + LIVES["root"],
        keys={key.keyid: key for role in TOP_LEVEL for key in by_role[role]},
        roles={role: Role([key.keyid for key in by_role[role]], THRESHOLDS[role]) for role in TOP_LEVEL},
        consistent_snapshot=True,
        unrecognized_fields={"coldchain": root_member(whole_policy)},
    )
    delegated: dict[str, Metadata[Targets]] = {name: empty_region_role(product, name, now) for name in regions}
    delegated[ROLLOUT] = rollout_role(1, {name: {} for name in regions}, now)
    chain = delegations(regions, by_role["region"], by_role[ROLLOUT])
    targets = Metadata(Targets(1, None, now + LIVES["targets"], {}, chain))
    meta = {f"{name}.json": MetaFile(1) for name in ("targets", *delegated)}
    roles: dict[str, Metadata[Root] | Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp]] = {
        "root": Metadata(root),
        "targets": targets,
        **delegated,
        "snapshot": Metadata(Snapshot(1, None, now + LIVES["snapshot"], meta)),
        "timestamp": Metadata(Timestamp(1, None, now + LIVES["timestamp"], MetaFile(1))),
    }
    for name, role in roles.items():
        kind = name if name in KEYS else "region"
        sign(role, [keyring.signer(key) for key in KEYS[kind][: THRESHOLDS[kind]]])
    files = files_of(roles)
    await check_as_client(storage, files, delegated, now)
    await put_state(storage, files)
    return files["metadata/1.root.json"]
