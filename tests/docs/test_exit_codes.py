"""The page of exit codes is the one that the error tree makes."""

from __future__ import annotations

from docs.make_exit_codes import NEXT, PAGE, page, tree


def test_the_page_is_what_the_error_tree_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python docs/make_exit_codes.py"


def test_every_code_says_what_to_do_and_no_other_does() -> None:
    assert {error.exit_code for error in tree()[1:]} == set(NEXT)
