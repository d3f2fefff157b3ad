"""The error tree: its picture is its truth, every error has its own exit code, and speaks to a person."""

from __future__ import annotations

import re

import pytest

from coldchain import errors
from coldchain.errors import ColdchainError, ThrottledError, VerificationError


def tree(root: type[ColdchainError]) -> list[type[ColdchainError]]:
    return [root, *(found for child in root.__subclasses__() for found in tree(child))]


EVERY = [error for error in tree(ColdchainError) if error.__module__ == errors.__name__]


def test_the_picture_shows_exactly_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn: list[tuple[str, str, int]] = []
    parents = ["ColdchainError"]
    for depth, name, code in re.findall(r"^    ([| `-]+)(\w+Error) +(\d+)  ", errors.__doc__, re.MULTILINE):
        level = len(depth) // 4
        del parents[level:]
        drawn.append((name, parents[-1], int(code)))
        parents.append(name)
    real = [
        (error.__name__, error.__mro__[1].__name__, error.exit_code) for error in EVERY if error is not ColdchainError
    ]
    assert sorted(drawn) == sorted(real)
    assert len(drawn) > 20


def test_no_error_looks_like_success_or_a_crash() -> None:
    for error in EVERY:
        assert 2 <= error.exit_code < 126


def test_errors_that_mean_different_things_have_different_codes() -> None:
    codes: dict[int, set[str]] = {}
    for error in EVERY:
        if error is not ColdchainError:
            codes.setdefault(error.exit_code, set()).add(error.__name__)
    shared = {code: names for code, names in codes.items() if len(names) > 1}
    assert shared == {12: {"VerificationError", "SignatureError", "MalformedError", "DigestError"}}


@pytest.mark.parametrize("error", EVERY)
def test_every_error_says_what_failed_what_was_kept_and_what_to_do(error: type[ColdchainError]) -> None:
    bare = error("it broke")
    assert str(bare) == bare.what == "it broke"
    assert bare.explain() == f"{error.word}: it broke"
    full = error("it broke", kept="release 41", todo="try again")
    assert full.explain() == f"{error.word}: it broke\n  kept: release 41\n  next: try again"
    assert full.as_json() == {
        "error": error.__name__,
        "exit_code": error.exit_code,
        "what": "it broke",
        "kept": "release 41",
        "next": "try again",
    }
    assert error.__doc__


def test_refusals_are_one_family() -> None:
    for error in (errors.SignatureError, errors.MalformedError, errors.DigestError, errors.RollbackError):
        assert issubclass(error, VerificationError)
    assert issubclass(errors.ExpiredError, VerificationError)
    assert not issubclass(errors.NewerFormatError, VerificationError)


def test_a_throttled_answer_keeps_its_delay() -> None:
    assert ThrottledError("busy", retry_after=7.5).retry_after == 7.5
    assert ThrottledError("busy").retry_after is None
