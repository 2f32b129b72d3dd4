"""Ordered rules that give a component to ops and GPU work: the shipped file, and a user's file before it."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import msgspec

from profiles.trace.errors import TraceError

OTHER = "other"
ANNOTATED = "@annotation"
"""As a rule's component: the name of the innermost annotation that no rule knows."""
PREVIOUS = "@previous"
"""As a rule's component: that of the op before it under the same annotation, or of the kernel before it in a graph."""
SHIPPED = "components.toml"
_NAME = re.compile(r"[\w][\w .:/+-]*")


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All patterns given must be found (re.search): in the innermost known annotation, in the name of any op around
    the launch, in the kernel's name. `needs`: found among all names of the trace, or else the rule is left out.
    `whole`: annotations inside its annotation say nothing more. `backward`: what it takes is of the backward pass.
    """

    component: str
    annotation: str | None = None
    op: str | None = None
    kernel: str | None = None
    needs: str | None = None
    whole: bool = False
    backward: bool = False


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first rule that fits decides. `transparent`: annotations that say nothing about the component."""

    rule: tuple[Rule, ...] = ()
    transparent: tuple[str, ...] = ()
    shipped: bool = True
    """Whether the shipped rules follow these."""


def load_rules(path: Path | None = None) -> Rules:
    """The rules of a user's file followed by the shipped ones. TraceError names the line of what is wrong."""
    source = files("profiles.trace").joinpath(SHIPPED)
    shipped = parse_rules(source.read_text("utf-8"), SHIPPED)
    if path is None:
        return shipped
    try:
        own = parse_rules(path.read_text("utf-8"), path)
    except OSError as error:
        raise TraceError(path, f"cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise TraceError(path, f"is no UTF-8 text ({error.reason} at byte {error.start})") from error
    if not own.shipped:
        return own
    return Rules(rule=own.rule + shipped.rule, transparent=own.transparent + shipped.transparent)


def parse_rules(text: str, path: Path | str) -> Rules:
    """Rules of a TOML text; `path` is for messages. TraceError with the line of the first fault."""
    try:
        found = msgspec.convert(tomllib.loads(text), Rules)
    except tomllib.TOMLDecodeError as error:
        raise TraceError(path, f"is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        at = re.search(r"\.rule\[(\d+)\]", str(error))
        raise TraceError(path, f"{_line(text, int(at[1]) if at else None)}{error}{_KEYS}") from error
    for number, rule in enumerate(found.rule):
        wrong = _fault(rule)
        if wrong:
            raise TraceError(path, f"{_line(text, number)}{wrong}")
    for pattern in found.transparent:
        wrong = _pattern_fault("transparent", pattern)
        if wrong:
            raise TraceError(path, wrong)
    return found


_KEYS = "; a rule has component and at least one of annotation, op, kernel, and may have needs, whole and backward"


def _line(text: str, number: int | None) -> str:
    """'line 12: ' of the n-th [[rule]]."""
    if number is None:
        return ""
    lines = [at for at, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*rule\s*\]\]", line)]
    return f"line {lines[number]}: rule {number + 1}: " if number < len(lines) else f"rule {number + 1}: "


def _fault(rule: Rule) -> str | None:
    """What is wrong with a rule, None if nothing."""
    patterns = {"annotation": rule.annotation, "op": rule.op, "kernel": rule.kernel}
    if rule.component not in (ANNOTATED, PREVIOUS) and not _NAME.fullmatch(rule.component):
        return f"component {rule.component!r} is no name: use letters, digits, space and _ . : / + -"
    if not any(patterns.values()) and rule.component != ANNOTATED:
        return f"component {rule.component!r} has no pattern, so it would take everything{_KEYS}"
    if rule.whole and rule.annotation is None:
        return f"component {rule.component!r} has whole = true, which says how an annotation is read, and no annotation"
    for key, pattern in {**patterns, "needs": rule.needs}.items():
        wrong = _pattern_fault(key, pattern) if pattern is not None else None
        if wrong:
            return wrong
    return None


def _pattern_fault(key: str, pattern: str) -> str | None:
    try:
        found = re.compile(pattern)
    except re.error as error:
        return f"{key} = {pattern!r} is no regular expression: {error}"
    if found.search(""):
        return f"{key} = {pattern!r} is found in every name: anchor it or name something"
    return None
