"""Flags of the gate verb that mean nothing, alone or together."""

from __future__ import annotations

import pytest

from bench.cli import app
from bench.commands.gate_pytest import pytest_arguments
from bench.errors import UsageError

REFUSED = {
    "open quotes": (["t.py", "--base", "HEAD", "--runner", "pytest", "--pytest-args", "-k 'a"], "No closing quotation"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_flags_that_mean_nothing_are_refused_before_anything_is_done(name: str) -> None:
    flags, words = REFUSED[name]
    with pytest.raises(UsageError, match=words):
        app(["gate", *flags], standalone_mode=False)


def test_pytest_args_are_words_of_a_shell() -> None:
    assert pytest_arguments(["a.py"], "-k 'b c' -x") == ("a.py", "-k", "b c", "-x")
