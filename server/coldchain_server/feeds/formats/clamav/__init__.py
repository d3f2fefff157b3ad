"""ClamAV's text databases: every line parsed by its type's own grammar, as strictly as the engine reads it.

The installed engine is the judge: what it loads passes, what it refuses, skips silently or misreads does not
(tests/server/feeds/formats/clamav/test_engine.py asks it). Formats: the manual's chapters on signatures
(https://docs.clamav.net/manual/Signatures.html) and libclamav's loaders, named in each module.
"""

from coldchain_server.feeds.formats.clamav.lint import clamav_type, lint_lines, signature_name
from coldchain_server.feeds.formats.clamav.types import LEFT_BEHIND, NOT_TAKEN, TYPES, ClamavType

__all__ = ["LEFT_BEHIND", "NOT_TAKEN", "TYPES", "ClamavType", "clamav_type", "lint_lines", "signature_name"]
