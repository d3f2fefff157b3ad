"""Numbered migrations: a list of statements each, run once, in order, each in one transaction with the note that it ran.

A migration never changes after it was released; a change is a new one. The SQL is the common part of SQLite and PostgreSQL.
"""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE feeds (
            name TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            path TEXT NOT NULL,
            skip_bad INTEGER NOT NULL,
            snapshot TEXT NOT NULL
        )
        """,
        """
        CREATE TABLE snapshots (
            feed TEXT NOT NULL,
            digest TEXT NOT NULL,
            taken TEXT NOT NULL,
            files BIGINT NOT NULL,
            records BIGINT NOT NULL,
            skipped BIGINT NOT NULL,
            PRIMARY KEY (feed, digest)
        )
        """,
        """
        CREATE TABLE releases (
            channel TEXT NOT NULL,
            number BIGINT NOT NULL CHECK (number > 0),
            state TEXT NOT NULL CHECK (state IN ('built', 'approved', 'published', 'discarded')),
            manifest TEXT NOT NULL,
            created TEXT NOT NULL,
            changed TEXT NOT NULL,
            PRIMARY KEY (channel, number)
        )
        """,
        """
        CREATE TABLE bundles (
            channel TEXT NOT NULL,
            number BIGINT NOT NULL,
            region TEXT NOT NULL,
            digest TEXT NOT NULL,
            bytes BIGINT NOT NULL,
            records BIGINT NOT NULL,
            PRIMARY KEY (channel, number, region),
            FOREIGN KEY (channel, number) REFERENCES releases (channel, number)
        )
        """,
    ),
    (
        # A release is logged between being built and approved.
        """
        CREATE TABLE releases_2 (
            channel TEXT NOT NULL,
            number BIGINT NOT NULL CHECK (number > 0),
            state TEXT NOT NULL CHECK (state IN ('built', 'logged', 'approved', 'published', 'discarded')),
            manifest TEXT NOT NULL,
            created TEXT NOT NULL,
            changed TEXT NOT NULL,
            PRIMARY KEY (channel, number)
        )
        """,
        """
        CREATE TABLE bundles_2 (
            channel TEXT NOT NULL,
            number BIGINT NOT NULL,
            region TEXT NOT NULL,
            digest TEXT NOT NULL,
            bytes BIGINT NOT NULL,
            records BIGINT NOT NULL,
            PRIMARY KEY (channel, number, region),
            FOREIGN KEY (channel, number) REFERENCES releases_2 (channel, number)
        )
        """,
        "INSERT INTO releases_2 (channel, number, state, manifest, created, changed) "
        "SELECT channel, number, state, manifest, created, changed FROM releases",
        "INSERT INTO bundles_2 (channel, number, region, digest, bytes, records) "
        "SELECT channel, number, region, digest, bytes, records FROM bundles",
        "DROP TABLE bundles",
        "DROP TABLE releases",
        "ALTER TABLE releases_2 RENAME TO releases",
        "ALTER TABLE bundles_2 RENAME TO bundles",
    ),
)
"""``MIGRATIONS[n]`` leads from version n to n + 1."""
