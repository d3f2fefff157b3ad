"""YARA rules as this project's engines compile them: the customary external variables, relaxed regular expressions, no ``include``.

Real rule sets need both: they use variables that a scanner sets for each file (:data:`EXTERNALS`), and regular expressions that the
strict syntax of yara-x refuses. ``include`` is off because an engine loads each file alone.

Source: yara-x's documentation; ``--relaxed-re-syntax``; what real sets were seen to need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import yara_x

EXTERNALS: Final = ("filename", "filepath", "extension", "filetype", "owner", "md5")


def compiler() -> yara_x.Compiler:
    """A compiler with the settings of this project's engines. Raises ImportError without yara-x."""
    import yara_x

    made = yara_x.Compiler(relaxed_re_syntax=True, includes_enabled=False)
    for name in EXTERNALS:
        made.define_global(name, "")
    return made
