"""What this client believes, and the order in which it may come to believe more.

A state machine without I/O: it is given bytes and either believes them or raises and is unchanged. The numbers in
comments are the steps of the specification's detailed client workflow. The order is enforced::

    TrustedSet(pinned root)  -> update_root* -> [stored timestamp] -> update_timestamp
        -> [stored snapshot] -> update_snapshot -> update_targets("targets") -> update_targets(a delegated role)*

Worked example::

    trusted = TrustedSet(pinned, now)
    trusted.update_root(root_2)          # signed by a threshold of root 1 and of itself, version exactly 2
    trusted.update_timestamp(timestamp)
    trusted.update_snapshot(snapshot)
    trusted.update_targets("targets", targets)
    trusted.update_targets("us", us)
    trusted.role("us").version

``now`` is fixed for the life of the object (5.1): a file that is valid when an update begins stays so to its end.

Source: The Update Framework specification 1.0.34, section 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

from coldchain.errors import (
    ColdchainError,
    DamagedError,
    InternalError,
    MalformedError,
    NewerFormatError,
    RollbackError,
)
from coldchain.limits import LIMITS, Limits
from coldchain.tuf.metadata import (
    FileInfo,
    Kind,
    Metadata,
    parse_body,
    parse_envelope,
    verify_signatures,
)

RoleCheck: TypeAlias = Callable[[Metadata], None]
"""Raises when a delegated role that is well signed is not what its name says.

TUF binds a role's file to its name by nothing but the keys. Where two roles have the same keys, one's file passes for the other's;
what they say inside must tell them apart *before* the file is kept, or a lie told once would stand in the way of the truth.
"""


def accept(delegator: Metadata, name: str, data: bytes, kind: Kind, limits: Limits = LIMITS) -> Metadata:
    """A file that a threshold of ``delegator``'s keys for role ``name`` signed: 5.4.2, 5.5.3, 5.6.3.

    Its body is interpreted only after the signatures were counted. Version and expiry are the caller's business.

    Returns:
        The metadata, with ``delegation`` set when the role is a delegated one.

    Raises:
        SignatureError: too few good signatures.
        MalformedError: it does not follow its format.
        NewerFormatError: well signed, but of a later specification.
    """
    what = f"{name}.json"
    envelope = parse_envelope(data, kind, what=what, limits=limits)
    role = verify_signatures(delegator, name, envelope, what)
    metadata = parse_body(envelope, kind, limits, name=name)
    return replace(metadata, delegation=role) if delegator.kind == "targets" else metadata


def pinned_root(data: bytes, limits: Limits = LIMITS) -> Metadata:
    """The root the customer pinned (5.2): it must be well-formed and signed by its own threshold of keys.

    Its expiry does not matter: it is the start of the way to the newest root, not the end.

    Raises:
        DamagedError: it is neither; everything else hangs on this file, so nothing can repair it but a person.
        NewerFormatError: a later specification.
    """
    try:
        root = parse_body(parse_envelope(data, "root", what="root.json", limits=limits), "root", limits)
        verify_signatures(root, "root", root, "root.json")
    except NewerFormatError:
        raise
    except ColdchainError as error:
        raise DamagedError(
            f"the pinned root is damaged: {error}",
            kept="what is installed stays in use",
            todo="get root.json again from where you got it first, compare its fingerprint, "
            "and run `coldchain init DIR --root root.json`",
        ) from error
    return root


def next_root(root: Metadata, data: bytes, limits: Limits = LIMITS) -> Metadata:
    """The root after ``root``: signed by a threshold of the old keys *and* of its own, exactly one version on.

    Raises:
        SignatureError, MalformedError, NewerFormatError: as :func:`accept`.
        RollbackError: another version, which also refuses skipping one.
    """
    # 5.3.4 Arbitrary software: (1) the threshold of the trusted root, (2) the threshold of the new one.
    new = accept(root, "root", data, "root", limits)
    verify_signatures(new, "root", new, "root.json")
    # 5.3.5 Rollback: precisely N+1.
    if new.version != root.version + 1:
        raise RollbackError(f"root.json is version {new.version}, but after {root.version} comes {root.version + 1}")
    # 5.3.6 The expiry of an intermediate root does not matter.
    return new


class TrustedSet:
    """The metadata this client believes.

    Args:
        root: the pinned root.json, or the newest one this client had accepted.
        now: the fixed start of this update, with a time zone (5.1).
        limits: bounds on foreign bytes.
        check: asked about every delegated role before it is believed; None asks nothing.

    Raises:
        DamagedError: the root is not well-formed or not signed by itself.
        NewerFormatError: the root is of a later specification.
    """

    def __init__(self, root: bytes, now: datetime, limits: Limits = LIMITS, check: RoleCheck | None = None) -> None:
        if now.tzinfo is None:
            raise InternalError("a time without a time zone was given")
        self.now = now
        self.limits = limits
        self._check = check
        self._root = pinned_root(root, limits)
        self._old_timestamp: Metadata | None = None
        self._old_snapshot: Metadata | None = None
        self._timestamp: Metadata | None = None
        self._snapshot: Metadata | None = None
        self._targets: dict[tuple[str, Metadata], Metadata] = {}

    @property
    def root(self) -> Metadata:
        """The newest root so far."""
        return self._root

    @property
    def timestamp(self) -> Metadata:
        """The timestamp of this update."""
        return _there(self._timestamp, "timestamp")

    @property
    def snapshot(self) -> Metadata:
        """The snapshot of this update."""
        return _there(self._snapshot, "snapshot")

    def role(self, name: str, delegator: Metadata | None = None) -> Metadata:
        """The top-level ``targets``, or a role as ``delegator`` (the top-level targets) delegates to it."""
        return _there(self.loaded(name, delegator), name)

    def loaded(self, name: str, delegator: Metadata | None = None) -> Metadata | None:
        """As :meth:`role`, or None when this update has not loaded it."""
        return self._targets.get((name, self._delegator(name, delegator)))

    def _delegator(self, name: str, delegator: Metadata | None) -> Metadata:
        """Who answers for a role: root for the top-level targets, which answer for every role unless told otherwise."""
        if name == "targets":
            return self._root
        return delegator or self.role("targets")

    def update_root(self, data: bytes) -> Metadata:
        """5.3.3 to 5.3.7: the next root. Errors as :func:`next_root`."""
        if self._timestamp or self._old_timestamp or self._old_snapshot:
            raise InternalError("a root was offered after a timestamp")
        # 5.3.7 Set the trusted root.
        self._root = next_root(self._root, data, self.limits)
        return self._root

    def recall(self, timestamp: bytes | None, snapshot: bytes | None) -> None:
        """What an earlier update stored, to compare versions with; None where nothing is stored.

        A stored file that is not well-formed (a torn disk) counts as absent. 5.3.11, recovery from fast-forward
        attacks: a well-formed one that the root's present keys did not sign is from before a rotation of the
        timestamp or snapshot keys, and then *both* are forgotten. Told from the stored files themselves, this also
        holds when an earlier update ended between the new root and the new timestamp. Their expiry does not matter.
        """
        if self._timestamp:
            raise InternalError("stored files were offered after new ones")
        old: dict[Kind, Metadata] = {}
        kinds: tuple[tuple[Kind, bytes | None], ...] = (("timestamp", timestamp), ("snapshot", snapshot))
        for kind, data in kinds:
            if data is None:
                continue
            try:
                envelope = parse_envelope(data, kind, what=f"{kind}.json", limits=self.limits)
                metadata = parse_body(envelope, kind, self.limits)
            except ColdchainError:
                continue
            try:
                verify_signatures(self._root, kind, metadata, f"{kind}.json")
            except ColdchainError:
                return
            old[kind] = metadata
        self._old_timestamp, self._old_snapshot = old.get("timestamp"), old.get("snapshot")

    def check_root_time(self) -> None:
        """5.3.10 Freeze: the newest root must not have expired.

        Raises:
            ExpiredError: it has.
        """
        self._root.check_time(self.now)

    def update_timestamp(self, data: bytes) -> Metadata:
        """5.4: the timestamp. Compare ``.raw`` with ``data`` to see whether the new one was taken.

        Raises:
            SignatureError, MalformedError, NewerFormatError: as :func:`accept`.
            RollbackError: it, or the snapshot it names, is older than what was seen before.
            ExpiredError: it (or the root) has expired.
        """
        if self._timestamp:
            raise InternalError("a second timestamp was offered")
        self.check_root_time()
        # 5.4.2 Arbitrary software.
        new = accept(self._root, "timestamp", data, "timestamp", self.limits)
        old = self._old_timestamp
        if old:
            # 5.4.3.1 Rollback of the timestamp.
            if new.version < old.version:
                raise RollbackError(f"timestamp.json is version {new.version}, but version {old.version} was seen")
            # Equal versions: "discard the new timestamp metadata"; the trusted one stays, whatever the new one says.
            # This is no error. We go on with the trusted one, since an earlier update may have ended half way.
            if new.version == old.version:
                new = old
            # 5.4.3.2 Rollback of the snapshot it names.
            was, now = old.files["snapshot.json"].version, new.files["snapshot.json"].version
            if now < was:
                raise RollbackError(f"timestamp.json names snapshot {now}, but snapshot {was} was seen")
        # 5.4.4 Freeze.
        new.check_time(self.now)
        self._timestamp = new
        return new

    def stored_snapshot_is_current(self) -> bool:
        """Whether the stored snapshot is the one the timestamp names, so that it need not be fetched; then takes it."""
        old = self._old_snapshot
        if old is None:
            return False
        try:
            self.timestamp.files["snapshot.json"].check(old.raw, "snapshot.json")
            self._check_snapshot(old)
        except ColdchainError:
            return False
        self._snapshot = old
        return True

    def update_snapshot(self, data: bytes) -> Metadata:
        """5.5: the snapshot.

        Raises:
            DigestError: not the length or hash that the timestamp states.
            SignatureError, MalformedError, NewerFormatError: as :func:`accept`.
            RollbackError: not the version the timestamp names, or a role in it is older than before or gone.
            ExpiredError: it has expired.
        """
        if self._snapshot:
            raise InternalError("a second snapshot was offered")
        # 5.5.2 Length and hashes, if the timestamp states them: no mix and match. Safe before the signatures.
        self.timestamp.files["snapshot.json"].check(data, "snapshot.json")
        # 5.5.3 Arbitrary software.
        new = accept(self._root, "snapshot", data, "snapshot", self.limits)
        self._check_snapshot(new)
        self._snapshot = new
        return new

    def _check_snapshot(self, new: Metadata) -> None:
        named = self.timestamp.files["snapshot.json"]
        # 5.5.4 The version the timestamp names.
        if new.version != named.version:
            raise RollbackError(f"snapshot.json is version {new.version}, but timestamp.json names {named.version}")
        # 5.5.5 Rollback of any role in it, and removal of any.
        for path, was in self._old_snapshot.files.items() if self._old_snapshot else ():
            now = new.files.get(path)
            if now is None:
                raise RollbackError(f"snapshot.json no longer names {path!r}, which it named before")
            if now.version < was.version:
                raise RollbackError(f"snapshot.json names {path!r} version {now.version}, but {was.version} was seen")
        # 5.5.6 Freeze.
        new.check_time(self.now)

    def named(self, name: str) -> FileInfo:
        """What the snapshot says of a targets role's file.

        Raises:
            MalformedError: the snapshot does not name the role.
        """
        info = self.snapshot.files.get(f"{name}.json")
        if info is None:
            raise MalformedError(f"snapshot.json does not name the role {name[:64]!r}")
        return info

    def update_targets(self, name: str, data: bytes, delegator: Metadata | None = None) -> Metadata:
        """5.6: the top-level targets (``name`` is "targets"), then the roles it delegates to, from the top down.

        Args:
            name: the role.
            data: its file.
            delegator: the accepted role that delegates to it, when that is not the top-level targets.

        Raises:
            DigestError: not the length or hash that the snapshot states.
            SignatureError, MalformedError, NewerFormatError: as :func:`accept`.
            RollbackError: not the version the snapshot names.
            ExpiredError: it has expired.
            ColdchainError: what ``check`` raises for a delegated role.
        """
        named, parent = self.named(name), self._delegator(name, delegator)
        # 5.6.2 Length and hashes, if the snapshot states them.
        named.check(data, f"{name}.json")
        # 5.6.3 Arbitrary software.
        new = accept(parent, name, data, "targets", self.limits)
        # 5.6.4 The version the snapshot names.
        if new.version != named.version:
            raise RollbackError(f"{name}.json is version {new.version}, but snapshot.json names {named.version}")
        # 5.6.5 Freeze.
        new.check_time(self.now)
        if self._check is not None and name != "targets":
            self._check(new)
        self._targets[name, parent] = new
        return new


def _there(metadata: Metadata | None, name: str) -> Metadata:
    if metadata is None:
        raise InternalError(f"{name}.json was asked for before it was verified")
    return metadata
