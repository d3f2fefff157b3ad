"""The public log, everything of it that is arithmetic: hashes, proofs, tiles, notes, policy. No file, no socket, no clock.

From the bytes up: ``spellings`` (base64 and decimals with one spelling), ``merkle`` (hashes and proofs), ``tiles`` (where the
log keeps hashes and entries), ``vkey`` (keys), ``cosignature`` (what a witness signs), ``note`` (a text and its signatures),
``checkpoint`` (a log's size and root), ``proof`` (the file that shows one entry is in), ``policy`` (whom a customer believes),
``offline`` (entry, proof and policy to a verdict), ``add_checkpoint`` (the question to a witness and its answer).

Whoever proves and whoever checks use the same modules: the log, the witness, the monitor and the endpoint.
"""
