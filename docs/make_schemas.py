"""Writes ``docs/schemas/*.json``, a JSON schema for each command's ``--json``: ``python docs/make_schemas.py`` (tests compare them).

A document is one of a command's shapes, with the members of an error beside them when the command ends with one, or an error alone.
Every object is closed: a member that is not described here is a defect. Members are never taken away or given another meaning;
new ones come with a new version of the program.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

FOLDER = Path(__file__).with_name("schemas")
Schema: TypeAlias = dict[str, Any]


def kind(name: str, about: str = "", **more: Any) -> Schema:
    """A plain type."""
    return {"type": name, **more, **({"description": about} if about else {})}


def text(about: str = "", **more: Any) -> Schema:
    """Text."""
    return kind("string", about, **more)


def number(about: str = "", least: int = 0) -> Schema:
    """A whole number."""
    return kind("integer", about, minimum=least)


def flag(about: str = "") -> Schema:
    """True or false."""
    return kind("boolean", about)


def many(item: Schema, about: str = "") -> Schema:
    """A list."""
    return kind("array", about, items=item)


def maybe(one: Schema, about: str = "") -> Schema:
    """That, or null."""
    return {"anyOf": [one, {"type": "null"}], **({"description": about} if about else {})}


def thing(about: str = "", /, **members: Schema) -> Schema:
    """An object with exactly these members; a trailing underscore keeps a name from being Python's."""
    named = {name.rstrip("_"): member for name, member in members.items()}
    return kind("object", about, properties=named, required=sorted(named), additionalProperties=False)


def optional(whole: Schema, **members: Schema) -> Schema:
    """The same object with members that need not be there."""
    return {**whole, "properties": whole["properties"] | members}


def by_name(value: Schema, about: str = "") -> Schema:
    """An object whose members are named by what they are about."""
    return kind("object", about, additionalProperties=value)


SHA256 = text(pattern="^[0-9a-f]{64}$")
TIME = text("UTC", pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")
RELEASE = number(least=1)
COUNT = number()
CHECK = thing("something that was looked at", name=text(), detail=text(), ok=flag())
ERROR: dict[str, Schema] = {
    "error": text("the error's class; docs/exit-codes.md"),
    "exit_code": number("what the command ends with", least=2),
    "what": text("what failed"),
    "kept": text("what still stands; empty when nothing was at stake"),
    "next": text("what to do next; empty when the message says it all"),
}

LOAD_TEST = thing(
    "how an engine's trial of the set went",
    engine=text(),
    version=text(),
    expected=COUNT,
    loaded=COUNT,
    canary=flag(),
    clean_files=COUNT,
    clean_hits=COUNT,
    clean_names=many(text()),
    must_detect=COUNT,
    missed=COUNT,
    missed_names=many(text()),
    milliseconds=COUNT,
    cpu_milliseconds=COUNT,
    peak_bytes=COUNT,
    problem=text(),
)
ENGINE_OUTCOME = thing(
    name=text(),
    action={"enum": ["activated", "current", "kept"]},
    release=maybe(RELEASE, "what it was seen to run, by its canary"),
    load_test=maybe(LOAD_TEST),
    proof_milliseconds=maybe(COUNT),
    problem=text("why it does not run what is installed; empty when it does"),
)
ENGINE_STATE = optional(
    thing(
        release=maybe(RELEASE),
        proved=text("the set that it was seen to run; empty when none was"),
        refused=many(thing(set=text(), why=text())),
        problem=text(),
    ),
    proved_at=TIME,
)

UPDATE = thing(
    action={"enum": ["installed", "updated", "repaired", "current"]},
    release=RELEASE,
    previous=maybe(RELEASE, "the release that ran before"),
    way=maybe({"enum": ["delta", "full"]}, "null when nothing was fetched"),
    check={"enum": ["quick", "full"]},
    why=maybe(text(), "why the full workflow ran"),
    fallback=maybe(text(), "why the delta was given up for the full bundle"),
    requests=COUNT,
    bytes_down=number("bytes of bodies received"),
    good_until=TIME,
    engines=many(ENGINE_OUTCOME),
)
MIRROR = thing(
    directory=text(),
    action={"enum": ["mirrored", "updated", "current"]},
    releases=many(thing(region=text(), channel=text(), release=RELEASE)),
    new_files=COUNT,
    new_bytes=COUNT,
    requests=COUNT,
    bytes_down=number("bytes of bodies received"),
    removed_files=COUNT,
    removed_bytes=COUNT,
    waiting_files=number("files that nothing names any more and that stay for the grace"),
    served_files=COUNT,
    served_bytes=COUNT,
    packs=many(text()),
    good_until=TIME,
)
STATUS = thing(
    release=maybe(RELEASE, "what runs"),
    previous=maybe(RELEASE, "what ran before, if it is kept"),
    product=text(),
    region=text(),
    channel=text(),
    root=SHA256,
    urls=many(text()),
    stale=flag("whether the metadata in force has expired, or there is none"),
    good_until=maybe(TIME),
    last_success=maybe(TIME),
    last_full=maybe(TIME),
    offered=maybe(RELEASE, "the newest release known here"),
    rollout=text("how far its rollout is, in words"),
    damage=maybe(text(), "what is wrong with the running version at first sight"),
    log=thing(
        "what is known of the public log",
        asked=flag("whether evidence is asked for"),
        origin=maybe(text()),
        index=maybe(COUNT, "the running release's entry"),
        size=maybe(COUNT, "entries of the largest checkpoint believed here"),
        cosigned=maybe(TIME, "when a witness that counts last vouched for the log"),
        witnesses=many(text()),
        problem=maybe(text(), "why the running release's evidence is not good"),
        fork=flag("whether the proof of a fork is kept here"),
    ),
    engines=by_name(ENGINE_STATE, "the engines of policy.toml, as the last run left them"),
    reports=thing(
        "outcome reports, where policy.toml has them sent",
        send=flag("whether they are"),
        waiting=many(text(), "the bytes of those that could not be sent yet"),
        last=maybe(
            thing(bytes=text("every byte of it"), time=TIME, url=text("of the source that took it")),
            "the last one sent",
        ),
    ),
    agent=maybe(
        thing(
            last_poll=maybe(TIME),
            last_good=maybe(TIME),
            next_poll=TIME,
            overdue=flag("whether it should have polled long ago: then no agent runs, or the clock was set"),
            failures=number("failed polls in a row"),
            exit_code=number("of the last poll"),
            what=maybe(text(), "why it failed"),
        ),
        "what the agent of this directory remembers; null when none has run",
    ),
    policy=thing(
        "the customer's own policy.toml",
        digest=maybe(SHA256, "of the file; null when there is none"),
        asks=many(text(), "what it asks for"),
        problem=maybe(text(), "why it is not in order"),
        unapproved=maybe(text(), "why the approval that it asks for is not there"),
    ),
    decided=maybe(
        thing(
            release=RELEASE,
            action={"enum": ["current", "applied", "held", "wait", "hold", "pin", "minimum-age", "approval"]},
            reason=text(),
            since=TIME,
            policy=text("SHA-256 of the policy.toml it was decided by; empty when there was none"),
        ),
        "what was decided about the newest release, and why",
    ),
)
VERIFY_DIRECTORY = thing(release=RELEASE, ok=flag(), checks=many(CHECK), notes=many(text()))
VERIFY_PACK = thing(
    release=maybe(RELEASE),
    from_=maybe(RELEASE, "the release its delta starts from; null for a full bundle"),
    region=text(),
    channel=text(),
    ok=flag(),
    genuine=flag("whether all checks but freshness are good"),
    good_until=maybe(TIME),
    newest_cosignature=maybe(TIME),
    checks=many(CHECK),
    notes=many(text()),
)
RECEIPT_CHECKED = thing(
    ok=flag(),
    signer=maybe(SHA256, "the public key that signed the receipt"),
    checks=many(CHECK),
    made=maybe(TIME),
    release=maybe(thing(number=RELEASE, bundle=SHA256, bytes=COUNT, records=COUNT)),
)
SIGNATURE = thing(keyid=text(), public=maybe(SHA256), sig=text())
RECEIPT = thing(
    receipt=thing(
        "docs/receipts.md",
        format={"const": "coldchain-receipt-1"},
        made=TIME,
        client=text(),
        follows=thing(product=text(), region=text(), channel=text()),
        release=thing(number=RELEASE, bundle=SHA256, bytes=COUNT, records=COUNT),
        applied=maybe(
            thing(
                format=text(),
                release=RELEASE,
                from_=maybe(RELEASE),
                path=text(),
                length=COUNT,
                sha256=SHA256,
                at=TIME,
            )
        ),
        canaries=many(thing(engine=text(), name=text())),
        root=thing(version=number(least=1), fingerprint=SHA256),
        roles=many(thing(name=text(), version=COUNT, file=text(), signed=text(), signatures=many(SIGNATURE))),
        manifest=text("the entry of the log, verbatim"),
        log=thing(
            index=COUNT,
            proof=many(text()),
            checkpoint=many(text()),
            signatures=many(thing(name=text(), public=SHA256, time=maybe(COUNT), sig=text())),
        ),
        policy=thing(source={"enum": ["root", "own"]}, sha256=SHA256, file=text()),
    )
)
RECEIPT_SIGNED = thing(receipt=RECEIPT["properties"]["receipt"], signature=thing(public=SHA256, sig=text()))
DIFF = thing(
    from_=RELEASE,
    to=RELEASE,
    sections=many(
        thing(
            section=text(),
            what={"enum": ["added", "removed", "changed"]},
            added=COUNT,
            removed=COUNT,
            changed=COUNT,
            added_names=many(text(), "the first 1,000"),
            removed_names=many(text()),
            changed_names=many(text()),
        )
    ),
)
EXPLAIN = thing(
    name=text("without what an engine adds to it"),
    release=RELEASE,
    region=text(),
    found=flag(),
    active=flag("whether an engine reports it"),
    places=many(
        thing(
            section=text(),
            engine={"enum": ["clamav", "yara", "list"]},
            feed=maybe(text()),
            line=text(),
            words=many(text(), "the record decoded"),
            state={
                "enum": [
                    "active",
                    "unwanted-only",
                    "suppressed",
                    "exception",
                    "switch",
                    "private",
                    "listed",
                    "not-loaded",
                ]
            },
            why=text(),
            sigtool=maybe(text(), "what ClamAV's own decoder says, where it is installed"),
        )
    ),
    policies=many(thing(action=text(), kind=text(), reason=text())),
    since=maybe(thing(release=RELEASE, exact=flag("no release before it had the name"), reason=text())),
    log=maybe(thing("the entry of the public log", release=RELEASE, index=COUNT, origin=text())),
)
INIT = thing(directory=text(), root=SHA256, root_version=number(least=1))
PACK = thing(
    file=text(),
    release=RELEASE,
    from_=maybe(RELEASE),
    content_bytes=COUNT,
    overhead_bytes=COUNT,
    tile_bytes=COUNT,
    parts=COUNT,
    good_until=TIME,
)
APPROVED = thing(
    file=text(), name=text("what endpoints look for"), release=RELEASE, bundle=SHA256, key=text(), checks=COUNT
)
COMPARE = thing(
    product=text(),
    channel=text(),
    release=RELEASE,
    manifest=SHA256,
    root=SHA256,
    root_pinned=flag(),
    evidence=text(),
    problems=many(text()),
    requests=COUNT,
    bytes_down=COUNT,
    regions=many(text()),
    sections=COUNT,
    records=many(COUNT),
    explained=many(thing(region=text(), action=text(), kind=text(), name=text(), reason=text(), records=COUNT)),
    unexplained=many(text()),
    unexplained_count=COUNT,
)
MONITOR = thing(
    "docs/monitor.md",
    url=text(),
    time=TIME,
    root=maybe(SHA256),
    origin=maybe(text()),
    size=COUNT,
    cosigned=maybe(COUNT),
    entries_read=COUNT,
    releases_checked=many(text()),
    first_run=flag(),
    alerts=many(thing(kind=text(), what=text(), proof=many(text("a signed note")))),
    standing=many(thing(kind=text(), what=text(), since=TIME)),
    notes=many(text()),
    witnesses=by_name(thing(size=maybe(COUNT), time=maybe(COUNT), problem=maybe(text()))),
    channels=by_name(RELEASE, "channel -> the newest number in the log"),
    offered=by_name(by_name(RELEASE), "region -> channel -> release"),
    versions=by_name(COUNT, "role -> version"),
    requests=COUNT,
    bytes_down=COUNT,
)
_ASSEMBLER = thing(version=text(), source=maybe(SHA256))
_REBUILD: dict[str, Schema] = {
    "product": text(),
    "channel": text(),
    "release": RELEASE,
    "manifest": SHA256,
    "log": thing(origin=text(), index=COUNT, size=COUNT),
    "assembler": thing(here=_ASSEMBLER, manifest=_ASSEMBLER, same=flag()),
    "bundles": many(thing(region=text(), published=SHA256, rebuilt=maybe(SHA256), same=flag(), differs=text())),
    "feeds_differ": many(text()),
    "rebuilt": flag("whether every bundle came out as published"),
}
REBUILD = thing("", **_REBUILD)
REBUILD_SIGNED = thing("", **_REBUILD, attestation=text(), keyid=text(), key=SHA256)

SHAPES: dict[str, list[Schema]] = {
    "init": [INIT],
    "update": [UPDATE],
    "agent": [thing(polls=COUNT)],
    "status": [STATUS],
    "verify": [VERIFY_DIRECTORY, VERIFY_PACK, RECEIPT_CHECKED],
    "diff": [DIFF],
    "explain": [EXPLAIN],
    "pack": [PACK],
    "mirror": [MIRROR],
    "receipt": [RECEIPT, RECEIPT_SIGNED, RECEIPT_CHECKED, thing(file=text(), public=SHA256)],
    "approve": [APPROVED, thing(file=text(), key=text("for policy.toml"))],
    "compare": [COMPARE],
    "monitor": [MONITOR],
    "rebuild": [REBUILD, REBUILD_SIGNED],
}
"""Command -> the shapes of what it finds."""


def schema(command: str) -> Schema:
    """A command's schema."""
    shapes = []
    for shape in SHAPES[command]:
        members = shape["properties"] | ERROR
        together = {name: [other for other in ERROR if other != name] for name in ERROR}
        shapes.append({**shape, "properties": members, "dependentRequired": together})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"coldchain {command} --json",
        "description": "What was found, with the error's members beside it if it ends with one; or an error alone.",
        "anyOf": [*shapes, thing("", **ERROR)],
    }


def page(command: str) -> str:
    """The file's text."""
    return json.dumps(schema(command), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in SHAPES:
        (FOLDER / f"{name}.json").write_text(page(name), encoding="utf-8")
