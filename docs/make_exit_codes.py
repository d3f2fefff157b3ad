"""Writes ``docs/exit-codes.md`` from the error tree: ``python docs/make_exit_codes.py`` (a test compares the two)."""

from __future__ import annotations

from pathlib import Path

from coldchain import errors
from coldchain.errors import ColdchainError

PAGE = Path(__file__).with_name("exit-codes.md")

NEXT = {
    2: "Read the line it prints; `--help` has an example.",
    3: "Report it; what was installed or published stands.",
    10: "Check the network and the clock. Protection goes on with the last verified set, which is getting old.",
    11: "Nothing: a later update brings the release when its rollout gets here.",
    12: "Something altered the files on their way, or serves those of somebody else. Try another `--url`; tell the publisher.",
    13: "Somebody shows an old state. Try another `--url`; if every source does it, tell the publisher.",
    14: "Compare the clock with another one. If it is right, the publisher (or a mirror) stopped signing.",
    15: "`coldchain status` says which line of DIR/policy.toml it is; the release comes when that line lets it (`docs/policy.md`).",
    16: "Do not go on: the release is not in the public log as it must be. Keep the files and ask the publisher in public;"
    " `coldchain status` says what is known of the log.",
    17: "Install a newer client.",
    18: "Ask the publisher whether this region and channel have a release.",
    20: "Check the network, the URL and the proxy; the next update goes on where this one stopped.",
    21: "Wait as long as the server asked, then try again.",
    22: "Something between rewrites answers, or the server is not an origin. Try another `--url`.",
    23: "Nothing: it goes on with the next day's bytes. Or raise the cap in `policy.toml`, or carry a pack (`update --pack`).",
    30: "The old set runs on. Ask the publisher about this release.",
    31: "Start the engine (or install it), then run `coldchain update DIR` again; `docs/engines.md` says how it is pointed at its set.",
    40: "`coldchain update DIR --repair` fetches the full bundle and installs it anew.",
    41: "`coldchain init` and `coldchain update` install a first set.",
    42: "Another process works on the directory; try again when it is done.",
    43: "Make room, or repair the disk; nothing half-written is in use.",
    50: "Read each alert and `docs/monitor.md`; keep the state directory, which holds the proofs. `--acknowledge` when it is settled.",
    51: "Ask the publisher in public about each line: a region got something that its declared policies do not say.",
    52: "Rebuild with the assembler that the manifest names. If it still differs, publish what you found.",
    53: "`coldchain-server residency show` names each place. Put the line of `regions.toml` back that was edited by hand, and let"
    " `residency move` change it; a copy that differs is made again by running the move again (`docs/residency.md`).",
    60: "Read the line it prints; what was published stands.",
    61: "Mend the lines it names at their source, or pull with `--skip-bad`, which publishes the counts of what is left out.",
    62: "`coldchain-server release list` shows what state each release is in.",
    63: "Let the missing approvers sign: `coldchain-server release approve N`.",
    64: "Bring the key file it names into the keys directory, or give the right passphrase.",
    65: "Try again when the other publisher is done.",
    66: "Nothing was logged or signed. Leave out or mend the signature it names, or give `--without-gate REASON` for what could not"
    " be run; `docs/gate.md` explains each check.",
}


def tree(root: type[ColdchainError] = ColdchainError) -> list[type[ColdchainError]]:
    """Every error of the tree, depth first."""
    return [root, *(found for child in root.__subclasses__() for found in tree(child))]


def page() -> str:
    """The page's text."""
    rows: dict[int, tuple[str, str]] = {}
    for error in tree()[1:]:
        if error.__module__ == errors.__name__ and error.exit_code not in rows:
            assert error.__doc__ is not None
            rows[error.exit_code] = error.__name__, error.__doc__.split("\n\n")[0].replace("\n", " ").strip()
    lines = [
        "# Exit codes",
        "",
        "Both programs, `coldchain` and `coldchain-server`, end with one of these. 0 means done and current, and nothing",
        "else does. Each failure prints three things: what failed, what was kept, what to do next; with `--json` the same",
        "stands in one JSON object on stdout (`error`, `exit_code`, `what`, `kept`, `next`). This page is made from the",
        "error tree in `client/coldchain/errors.py`.",
        "",
        "| code | error | what it means | what to do |",
        "| ---: | --- | --- | --- |",
        "| 0 | | Done and current. | |",
        "| 1 | | Never on purpose: Python's own code for a crash. | Report it. |",
    ]
    lines += [f"| {code} | `{name}` | {what} | {NEXT[code]} |" for code, (name, what) in sorted(rows.items())]
    lines.append("| 130 | | Interrupted from the keyboard; what was installed stays in use. | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
