"""What reaches a terminal, and what is said of a machine's faults."""

from __future__ import annotations

import errno

import pytest

from bench.errors import CURES, machine_fault
from bench.terminal import printable


def test_control_characters_are_spelt_out_and_the_rest_stays() -> None:
    assert printable("a\x1b]0;x\x07b\r\x9b\tc\nµ<b>") == "a\\x1b]0;x\\x07b\\x0d\\x9b\tc\nµ<b>"


@pytest.mark.parametrize("number", CURES)
def test_a_fault_of_the_machine_says_where_and_what_to_do(number: int) -> None:
    told = machine_fault(OSError(number, "this went wrong", "/x/records.jsonl"))
    assert told == f"/x/records.jsonl: this went wrong: {CURES[number]}, then try again"


def test_a_bug_is_no_fault_of_the_machine() -> None:
    assert machine_fault(OSError(errno.EBADF, "bad file descriptor")) is None
    assert machine_fault(ValueError("x")) is None
