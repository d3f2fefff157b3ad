"""Which assembler made a release: a digest over the code of both packages, the same however and wherever they are installed.

::

    sha256 over one line for each Python file, sorted by its path:   <sha256 of the file>  <path>\\n
    e.g.  5c1f…07d12  coldchain/__init__.py
          …           coldchain_server/assembly/assemble.py

It stands in the manifest beside the version. A rebuild compares it with its own: another digest does not make a rebuild wrong, but
when bundles differ it says where to look first.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import coldchain
import coldchain_server


@functools.cache
def source_digest() -> str:
    """The digest of the code that is running."""
    lines = []
    for package in (coldchain, coldchain_server):
        top = Path(str(package.__file__)).parent
        for file in top.rglob("*.py"):
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            lines.append((f"{top.name}/{file.relative_to(top).as_posix()}", digest))
    return hashlib.sha256("".join(f"{digest}  {path}\n" for path, digest in sorted(lines)).encode()).hexdigest()
