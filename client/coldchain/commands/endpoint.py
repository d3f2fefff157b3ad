"""``coldchain init``, ``update``, ``status``, ``verify``: an endpoint's own life."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from pathlib import Path

from coldchain.bundle.description import check_token
from coldchain.canonical import Object
from coldchain.commands import packs
from coldchain.commands.command import (
    Add,
    Found,
    base_url,
    endpoint_argument,
    own_policy,
    time_words,
    utc_now,
    whole_number,
)
from coldchain.commands.view import Checks, Facts, Lines, Verdict, facts, view
from coldchain.customer_policy import FILE_NAME
from coldchain.engines.activation import EngineOutcome
from coldchain.errors import (
    ColdchainError,
    DamagedError,
    EngineDownError,
    EngineError,
    EvidenceError,
    MalformedError,
    NotInstalledError,
    OwnPolicyError,
    StaleError,
    UsageError,
)
from coldchain.evidence import DO_NOT, effective_policy
from coldchain.install import public_log, trusted
from coldchain.install.audit import audit
from coldchain.install.directory import ROOT_POLICY, ClientDirectory, Config, check_region, read_file, urls
from coldchain.install.policy_file import read_customer_policy, write_template
from coldchain.install.status import Status, status
from coldchain.limits import LIMITS
from coldchain.tlog.policy import Policy
from coldchain.tuf.trusted_set import pinned_root


def add(command: Add) -> None:
    """Adds these commands."""
    init = command(
        "init",
        _init,
        "pin a root and say which region and channel to follow",
        "coldchain init /var/lib/coldchain --root root.json --region us --url https://coldchain.example",
    )
    endpoint_argument(init)
    init.add_argument(
        "--root", required=True, metavar="FILE", help="the publisher's root.json: what everything hangs on"
    )
    init.add_argument("--fingerprint", metavar="HEX", help="SHA-256 that FILE must have")
    init.add_argument("--region", required=True, help="e.g. us")
    init.add_argument(
        "--policy",
        metavar="FILE",
        help="your own log policy, in place of the one that the root carries (the word root: the root's)",
    )
    init.add_argument("--channel", default="stable", help="stable (default) or early")
    init.add_argument("--product", default="coldchain", help=argparse.SUPPRESS)
    init.add_argument(
        "--url", required=True, action="append", type=base_url, help="base URL or directory; more than one: in order"
    )
    change = command(
        "update",
        _update,
        "poll, and fetch, verify and install what is new",
        "coldchain update /var/lib/coldchain\n  coldchain update /var/lib/coldchain --wait 3600",
    )
    endpoint_argument(change)
    change.add_argument("--url", action="append", type=base_url, help="for this run, instead of the configured ones")
    change.add_argument("--pack", metavar="FILE", help="from this pack, without a network, instead of any URL")
    change.add_argument(
        "--wait", metavar="SECONDS", type=whole_number, help="first wait for news, at most this long; then poll"
    )
    change.add_argument("--repair", action="store_true", help="install the release anew from its full bundle")
    shown = command(
        "status", _status, "say what runs and how fresh it is", "coldchain status /var/lib/coldchain --json"
    )
    endpoint_argument(shown)
    checked = command(
        "verify",
        _verify,
        "check every byte of an endpoint, a pack or a receipt against what is signed, offline",
        "coldchain verify /var/lib/coldchain\n  coldchain verify 42.pack --root root.json",
    )
    checked.add_argument("path", metavar="DIR|FILE", help="the endpoint's directory, or a pack, or a receipt")
    packs.verify_arguments(checked)


def _init(options: argparse.Namespace) -> Found:
    directory = ClientDirectory(Path(options.directory))
    data = read_file(Path(options.root), LIMITS.root_bytes)
    if data is None:
        raise UsageError(f"{options.root} is not a readable file", todo="give the root.json you got from the publisher")
    try:
        region = check_region(options.region)
        product, channel = check_token(options.product, "product"), check_token(options.channel, "channel")
    except MalformedError as error:
        raise UsageError(error.what) from error
    fingerprint = hashlib.sha256(data).hexdigest()
    if options.fingerprint and options.fingerprint.lower().replace(":", "") != fingerprint:
        raise UsageError(
            f"{options.root} has the fingerprint {fingerprint}, not the one you gave",
            todo="do not use this file; get root.json and its fingerprint over two different ways",
        )
    own = own_policy(options.policy) if options.policy not in (None, ROOT_POLICY) else None
    directory.make()
    with directory.locked():
        directory.sweep()
        try:
            policy = effective_policy(pinned_root(data), own)
        except DamagedError as error:
            raise UsageError(f"{options.root} is not a good root: {error.what}", todo="get it again") from error
        named = hashlib.sha256(own).hexdigest() if own is not None else ROOT_POLICY
        config = Config(product, region, channel, fingerprint, urls(options.url), named)
        _check_same(directory, config, options.policy is not None)
        if own is not None:
            public_log.keep_policy(directory, own)
        root = trusted.pin(directory, data)
        write_template(directory)
        directory.write_config(config)
    text = (
        f"{directory.path} follows product {product}, region {region}, channel {channel}\n"
        f"pinned root: version {root.version}, fingerprint {fingerprint}\n"
        "  compare the fingerprint with the one the publisher tells you over another way\n"
        f"public log: {_policy_words(policy)} ({'your own policy' if own is not None else 'as the root says'})\n"
        f"your own policy: {directory.path / FILE_NAME} ({_asks(directory)})\n"
        f"next: coldchain update {directory.path}"
    )
    return {"directory": str(directory.path), "root": fingerprint, "root_version": root.version}, text, None


def _asks(directory: ClientDirectory) -> str:
    """What the customer's own policy asks for; a file that is not in order is no reason not to pin a root."""
    try:
        return "; ".join(read_customer_policy(directory).words()) or "asks for nothing yet"
    except UsageError as error:
        return f"NOT IN ORDER: {error.what}"


def _policy_words(policy: Policy) -> str:
    logs = " or ".join(log.vkey.partition("+")[0] for log in policy.logs)
    names = policy.witnesses_of(policy.quorum)
    return f"{logs}; {f'a quorum of {len(names)} witnesses' if names else 'no witness is asked for'}"


def _check_same(directory: ClientDirectory, config: Config, policy_said: bool) -> None:
    """A directory that holds a set goes on to follow what it followed; new URLs and a new root are in order.

    The customer's own log policy is never given up in passing: whoever means that says so.
    """
    try:
        old = directory.config()
    except NotInstalledError:
        return
    except DamagedError:
        own = (directory.path / public_log.POLICY).exists()
    else:
        followed = (old.product, old.region, old.channel)
        if followed != (config.product, config.region, config.channel) and directory.current.is_symlink():
            raise UsageError(
                f"{directory.path} follows {' '.join(followed)} and holds a set of it",
                kept="nothing was changed",
                todo="use another directory",
            )
        own = old.policy not in ("", ROOT_POLICY)
    if own and not policy_said:
        raise UsageError(
            f"{directory.path} judges by a log policy of your own, and without --policy it would take the root's",
            kept="nothing was changed",
            todo=f"give --policy {directory.path / public_log.POLICY} to keep it, or --policy {ROOT_POLICY} for the root's",
        )


def _update(options: argparse.Namespace) -> Found:
    import asyncio

    from coldchain.agent.news import NewsSettings, wait_for_news
    from coldchain.agent.update import Settings, update

    if options.wait and options.pack:
        raise UsageError("--wait asks servers, and --pack needs none", todo="give one of them")
    if options.pack and options.url:
        raise UsageError("--pack and --url are two ways to the same thing", todo="give one of them")
    settings = Settings(
        urls=urls(options.url) if options.url else None,
        pack=Path(options.pack) if options.pack else None,
        repair=options.repair,
        progress=show_progress if sys.stderr.isatty() and not options.json else show_nothing,
    )
    directory = ClientDirectory(Path(options.directory))
    if options.wait:
        asyncio.run(wait_for_news(directory, options.wait, NewsSettings(urls=settings.urls)))
    done = asyncio.run(update(directory, settings))
    size = f"{done.bytes_down:,} bytes, {done.requests} request{'s' if done.requests != 1 else ''}"
    if done.action == "current":
        text = f"current: release {done.release} is the newest ({done.check} check: {size})"
    else:
        before = f", was {done.previous}" if done.previous else ""
        way = "as a delta" if done.way == "delta" else "as the full bundle"
        text = f"{done.action}: release {done.release}{before}, {way}, every byte as signed ({size})"
        if done.fallback:
            text += f"\n  the delta was given up for the full bundle: {done.fallback}"
        if not done.engines:
            text += f"\n  engines load {Path(options.directory) / 'current'}"
    text += "".join(f"\n  engine {_engine_words(one)}" for one in done.engines)
    head, *rest = text.split("\n")
    return done.as_json(), view(Verdict(head), Lines(tuple(rest)) if rest else None), done.error


def _engine_words(one: EngineOutcome) -> str:
    """How an engine stands after an update."""
    runs = f"runs release {one.release}, as its canary shows" if one.release else "was not seen to run any release yet"
    took = f", proved after {one.proof_seconds:.1f} s" if one.action == "activated" and one.proof_seconds else ""
    return f"{one.name}: {runs}{took}" + (f"; {one.error.what}" if one.error else "")


def show_progress(there: int, length: int) -> None:
    """A bar on a terminal, no wider than it, and gone when it is full."""
    words = f" {there:,} of {length:,} bytes"
    width = min(
        30, shutil.get_terminal_size().columns - len(words) - 3
    )  # the last column stays free: some terminals wrap there
    full = width * there // max(length, 1)
    bar = f"[{'#' * full}{'.' * (width - full)}]{words}" if width > 0 else f"{100 * there // max(length, 1)} %"
    end = "\r\x1b[K" if there >= length else ""
    sys.stderr.write(f"\r{bar}{end}")
    sys.stderr.flush()


def show_nothing(_there: int, _length: int) -> None:
    """For pipes and scripts."""
    return


def _status(options: argparse.Namespace) -> Found:
    directory = ClientDirectory(Path(options.directory))
    found = status(directory, utc_now())
    text = view(
        *[
            Facts(
                facts(
                    [
                        f"release      {found.release or 'none yet'}"
                        + (f" (before it {found.previous.release}, kept)" if found.previous else ""),
                        f"follows      product {found.config.product}, region {found.config.region}, channel {found.config.channel}",
                        f"newest known {found.offered or 'none'}; rollout: {found.rollout}",
                        f"fresh        {'NO, since' if found.stale else 'until'} {time_words(found.good_until)}",
                        f"last check   {time_words(found.state.last_success)}, last full one {time_words(found.state.last_full)}",
                        *found.log.lines(found.now),
                        *found.decision_lines(),
                        *found.report_lines(),
                        f"agent        {found.agent.line(found.now)}",
                        *(_engine_lines(found) or [f"engines load {directory.current}"]),
                    ]
                )
            )
        ]
    )
    return found.as_json(), text, _status_error(directory, found)


def _engine_lines(found: Status) -> list[str]:
    lines = []
    for name, one in found.state.engines.items():
        runs = f"release {one.release}, proved {time_words(one.proved_at)}" if one.release else "no release proved yet"
        lines.append(f"engine       {name}: {runs}" + (f"; {one.problem}" if one.problem else ""))
        lines += [f"             refused release {no.release}: {no.why}" for no in reversed(one.refused)]
    return lines


def _engine_error(found: Status) -> ColdchainError | None:
    """An engine that does not run what is installed, or was not reached by the last run."""
    for name, one in found.state.engines.items():
        runs = (
            f"engine {name} runs release {one.release}"
            if one.release
            else f"engine {name} runs no release that is known"
        )
        if found.version is not None and one.refusal(found.version.name) is not None:
            todo = "ask the publisher about this release; a higher one is tried as soon as it comes"
            return EngineError(one.problem or f"engine {name} refused release {found.release}", kept=runs, todo=todo)
        if one.problem or one.release != found.release:
            what = one.problem or f"engine {name} was not seen to run release {found.release}"
            return EngineDownError(what, kept=runs, todo="run `coldchain update DIR`")
    return None


def _status_error(directory: ClientDirectory, found: Status) -> ColdchainError | None:
    kept = f"release {found.release} stays in use"
    if found.own_problem:
        return found.own_problem
    if found.version is None:
        return NotInstalledError("nothing is installed yet", todo=f"run `coldchain update {directory.path}`")
    if found.damage:
        return DamagedError(found.damage, kept=kept, todo=f"run `coldchain update {directory.path} --repair`")
    if found.stale:
        what = f"the metadata expired: {time_words(found.good_until)}"
        return StaleError(what, kept=kept, todo=f"run `coldchain update {directory.path}`; is the clock right?")
    if found.log.problem:
        return EvidenceError(
            found.log.problem,
            kept=kept,
            todo=f"run `coldchain update {directory.path} --repair`, which gets its evidence anew; if that is refused too, {DO_NOT}",
        )
    if found.unapproved:
        return OwnPolicyError(
            f"release {found.release} runs, and your own policy asks for an approval of it: {found.unapproved}",
            kept=kept,
            todo=f"have it approved with `coldchain approve`, and run `coldchain update {directory.path}`",
        )
    if found.log.fork:
        return EvidenceError(
            "the log has told two different stories",
            kept=kept,
            todo=f"publish {directory.metadata / public_log.FORK}, which proves it; remove the file when that is settled",
        )
    return _engine_error(found)


def _verify(options: argparse.Namespace) -> Found:
    path = Path(options.path)
    if path.is_file():
        return packs.verify_file(path, options)
    packs.refuse_file_options(options)
    found = audit(ClientDirectory(path), utc_now())
    verdict = None
    if found.error is None:
        verdict = Verdict(f"release {found.release} is exactly what was signed ({len(found.checks)} checks)")
    said = view(Checks(tuple(found.checks), tuple(found.notes)), verdict)
    data: Object = {
        "release": found.release,
        "ok": found.error is None,
        "checks": [{"name": check.name, "detail": check.detail, "ok": check.ok} for check in found.checks],
        "notes": list(found.notes),
    }
    return data, said, found.error
