"""``policy.toml`` in the endpoint's directory: written with a comment for every line by ``coldchain init``, and never touched again.

What it may say is in :mod:`coldchain.customer_policy`. It is read at the beginning of every run, so a change takes effect with the
next one, and needs no other step. Write a changed file beside it and rename it into place, as any careful editor does. A file that
is not there asks for nothing; one that is there and cannot be read or understood stops everything, since what it asks for is unknown.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from coldchain.customer_policy import FILE_NAME, CustomerPolicy, parse_customer_policy
from coldchain.engines.settings import engine_settings
from coldchain.errors import UsageError
from coldchain.install.directory import ClientDirectory, normal_url
from coldchain.limits import LIMITS, Limits

TEMPLATE: Final = """\
# What this endpoint may apply, and when: your own policy. Every line takes away, or takes nothing away; none of it makes the
# endpoint accept what it would refuse without it. Lines that begin with # are off. A change takes effect with the next run.
# `coldchain status DIR` says what was decided, and why. The whole story of every line: docs/policy.md

[release]
# Apply a release only when it has been in public for that long, by the clocks of the witnesses who cosigned the log with it in it:
# a number and s, m, h, d or w. Withdrawals wait as long: a withdrawal is a release too.
#minimum_age = "2d"
# Apply no release above this one. What runs stays, even if it is above: an endpoint never goes back.
#pin = 42
# Apply nothing new at all. Repairs of what runs go on.
#hold = true

[log]
# More than the log policy in force asks for (the root's, or your own from `coldchain init --policy`): so many of the witnesses it
# lists must have cosigned, from so many jurisdictions, and so many rebuilders must have assembled the release again, bit for bit.
#witnesses = 2
#jurisdictions = 2
#rebuilders = 1
# Rebuilders of your own choice, by name and key; without them those of the log policy are meant.
#[log.rebuilder]
#alice = "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394"

# Apply only what your own security team has approved: `coldchain approve` makes the key and the approvals. They are looked for in
# DIR/approvals, and then at this URL (or directory), if you give one.
#[approval]
#key = "security.example.com/fleet+addde34f+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
#url = "https://security.example.com/coldchain"

# How servers are reached, and what it may cost; docs/agent.md shows every line.
#[network]
# Asked before the URLs of `coldchain init`, in this order.
#mirrors = ["https://mirror.intra.example"]

# Engines that load the sets, each tried before it runs one and asked afterwards; docs/engines.md shows every line.
#[[engine]]
#kind = "clamav"
#socket = "/run/clamav/clamd.ctl"
#view = "/var/lib/clamav/coldchain"

# Your own files that every new set is tried on: nothing may be found in the first, and every one of the second must be.
#[corpora]
#clean = ["/usr/bin", "/srv/our-product"]
#must_detect = ["/srv/samples/eicar.com"]

[reports]
# Say how taking each release went (applied, refused, engine failed), once, to the servers that updates come from: 128 bytes without
# any identifier, so that a release that breaks engines stops early. docs/reports.md shows every byte; `coldchain status DIR` the last.
# Nothing is sent unless this says true.
send = false
"""


def read_customer_policy(directory: ClientDirectory, limits: Limits = LIMITS) -> CustomerPolicy:
    """The policy in force.

    Raises:
        UsageError: the file is there and is not a policy.
        StorageError: the disk refused.
    """
    with directory.folder() as here:
        data = here.read(FILE_NAME, limits.customer_policy_bytes)
        there = data is not None or here.look(FILE_NAME) is not None
    path = directory.path / FILE_NAME
    if there and data is None:
        raise UsageError(
            f"{path} is no file of its own, or longer than {limits.customer_policy_bytes} bytes",
            kept="what is installed stays in use",
            todo="put a plain file there (a link is not followed), or nothing",
        )
    policy = parse_customer_policy(data, limits)
    engine_settings(policy.tables)  # a mistake anywhere in the file is said at once, and by every command
    approval = policy.approval
    if approval is not None and approval.url is not None:
        try:
            url = normal_url(approval.url)
        except UsageError as error:
            raise UsageError(f"{FILE_NAME}: approval.url: {error.what}", todo=error.todo) from error
        policy = replace(policy, approval=replace(approval, url=url))
    return policy


def write_template(directory: ClientDirectory) -> bool:
    """Writes the commented file where nothing is; returns whether it did. The lock must be held."""
    with directory.folder() as here:
        if here.look(FILE_NAME) is not None:
            return False
        here.write(FILE_NAME, TEMPLATE.encode())
    return True
