"""Every bound on foreign bytes, in one dataclass.

A bound is checked before memory is taken or work is done. A customer may lower them; raising one is a
release of this program, because the bounds are what keeps an endpoint alive under a hostile mirror.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds; sizes in bytes, counts in pieces, times in seconds."""

    # TUF metadata (specification 5.3.3: the client sets the maximum for files whose length is not signed)
    root_bytes: int = 512 * KIB
    timestamp_bytes: int = 16 * KIB
    snapshot_bytes: int = 2 * MIB
    targets_bytes: int = 5 * MIB
    root_rotations: int = 256
    delegations: int = 64
    signatures: int = 64
    keys: int = 256
    targets: int = 4096
    json_depth: int = 32

    # bundles
    description_bytes: int = 16 * MIB
    sections: int = 65_536
    section_name_bytes: int = 128
    section_bytes: int = 4 * GIB
    bundle_bytes: int = 16 * GIB
    records: int = 200_000_000
    line_bytes: int = 256 * KIB
    manifest_bytes: int = 1 * MIB

    # deltas: a block is the unit of memory, so apply stays flat whatever the bundle's size; unpacking one costs its length once more
    # in the coder's window, and both together stay under 16 MiB
    delta_bytes: int = 4 * GIB
    delta_block_bytes: int = 6 * MIB
    delta_block_records: int = 65_536
    zstd_window_bytes: int = 8 * MIB
    zstd_dictionary_bytes: int = 8 * MIB
    model_bytes: int = 4 * KIB  # of one column; the text model costs about 0.1 ms a byte

    # the public log
    note_bytes: int = 256 * KIB
    note_signatures: int = 100
    vkey_bytes: int = 4 * KIB
    proof_hashes: int = 63
    proof_extra_bytes: int = 64 * KIB
    proof_bytes: int = 512 * KIB
    chain_walk: int = 64
    log_policy_bytes: int = 256 * KIB
    log_policy_lines: int = 4096
    log_entry_bytes: int = 65_535
    log_tiles_kept: int = 64
    cosignature_ahead_seconds: int = 24 * 3600
    attestation_bytes: int = 512 * KIB
    rebuilders: int = 64
    reason_characters: int = 1000

    # the customer's own policy
    customer_policy_bytes: int = 256 * KIB
    approval_bytes: int = 4 * KIB

    # outcome reports
    report_bytes: int = 512
    report_seconds: float = 10.0
    report_batch_bytes: int = 512 * KIB
    report_batch_counts: int = 1000

    # monitoring: a section of kind file is compared in memory
    compared_file_bytes: int = 256 * MIB

    # packs: the small parts together, unpacked; 64 releases' manifests and a few tiles are some hundred KiB
    pack_parts_bytes: int = 16 * MIB
    pack_parts: int = 1024

    receipt_bytes: int = 32 * MIB

    # feeds: findings kept of one file; the totals of the rest are kept by code
    findings: int = 10_000

    # transport
    connect_seconds: float = 15.0
    metadata_seconds: float = 60.0
    download_floor_seconds: float = 60.0
    download_min_bytes_per_second: int = 8 * KIB
    redirects: int = 0
    header_bytes: int = 8 * KIB


LIMITS = Limits()
