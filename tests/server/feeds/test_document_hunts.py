"""Words that markings and names of hunts hold, and words that they do not."""

from __future__ import annotations

from coldchain_server.feeds.document_hunts import MARKINGS, hunts_documents


def test_every_marking_is_seen_in_any_case_and_in_sixteen_bits() -> None:
    for marking in MARKINGS:
        for text in (marking, marking.upper(), f"x {marking}, y"):
            assert marking in hunts_documents("A", text.encode())
        if marking.isascii():
            assert marking in hunts_documents("A", marking.encode("utf-16-le"))


def test_names_tell() -> None:
    for name in ("doc_hunt", "Document.Search-1", "keyword_list", "leaked_docs", "watchword"):
        assert hunts_documents(name, b"") == [f"the name {name}"]


def test_ordinary_words_do_not() -> None:
    for name, text in (
        ("Win.Trojan.Agent-1", b"unclassifieds declassifiedx"),
        ("DocDropper", b"This program cannot be run"),
    ):
        assert hunts_documents(name, text) == []
