"""What a person asks a mirror, or an edge, to follow: what is given now, over what was remembered from before.

A first run must be told the pinned root, the regions and the sources; every later one remembers them. Another root or product than
before is another mirror.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from coldchain.bundle.description import check_token
from coldchain.errors import MalformedError, UsageError
from coldchain.evidence import effective_policy
from coldchain.install import public_log, trusted
from coldchain.install.directory import ROOT_POLICY, check_region, urls
from coldchain.mirror.directory import MOST_GRACE, MirrorConfig, MirrorDirectory
from coldchain.tuf.trusted_set import pinned_root


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is given; None, or nothing, stands for what was before.

    Attributes:
        example: a command line that makes a first run.
        url_option: what the option is called that names sources.
        regions: whose files are held.
        urls: the sources, in their order.
        root: the pinned root.json, a good one.
        policy: the customer's own log policy, a good one, or :data:`~coldchain.install.directory.ROOT_POLICY`.
        packs: whether packs are made.
        grace: hours that a file stays after the last generation that named it.
        product: the product's name.
    """

    example: str
    url_option: str = "--url"
    regions: Sequence[str] = ()
    urls: Sequence[str] = ()
    root: bytes | None = None
    policy: bytes | str | None = None
    packs: bool | None = None
    grace: int | None = None
    product: str | None = None

    def over(self, directory: MirrorDirectory, old: MirrorConfig | None) -> MirrorConfig:
        """What is asked for in all.

        Raises:
            UsageError: a first run lacks something, or another root or product is asked for than before.
        """
        if self.grace is not None and self.grace > MOST_GRACE:
            raise UsageError(f"--grace {self.grace} is more than a year", todo=f"give at most {MOST_GRACE} hours")
        fingerprint = hashlib.sha256(self.root).hexdigest() if self.root is not None else None
        try:
            regions = tuple(sorted({check_region(one) for one in self.regions}))
            product = check_token(self.product, "product") if self.product else None
        except MalformedError as error:
            raise UsageError(error.what) from error
        if old is None:
            if self.root is None or fingerprint is None or not regions or not self.urls:
                raise UsageError(
                    f"{directory.path} is no mirror yet: a first run needs --root, --region and {self.url_option}",
                    todo=self.example,
                )
            effective_policy(pinned_root(self.root), self.policy if isinstance(self.policy, bytes) else None)
            config = MirrorConfig(product or "coldchain", regions, fingerprint, urls(self.urls))
        else:
            if fingerprint not in (None, old.root) or product not in (None, old.product):
                raise UsageError(
                    f"{directory.path} mirrors another root or product than the one given",
                    kept="nothing was changed",
                    todo="leave --root out, or take another directory",
                )
            config = replace(old, regions=regions or old.regions, urls=urls(self.urls) if self.urls else old.urls)
        if self.policy is not None:
            own = hashlib.sha256(self.policy).hexdigest() if isinstance(self.policy, bytes) else ROOT_POLICY
            config = replace(config, policy=own)
        if self.packs is not None:
            config = replace(config, packs=self.packs)
        return config if self.grace is None else replace(config, grace=self.grace)

    def remember(self, directory: MirrorDirectory, config: MirrorConfig) -> None:
        """Writes down what :meth:`over` found. The lock must be held."""
        if isinstance(self.policy, bytes):
            public_log.keep_policy(directory.own, self.policy)
        if self.root is not None:
            trusted.pin(directory.own, self.root)
        directory.write_config(config)
