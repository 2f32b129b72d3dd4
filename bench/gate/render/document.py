"""The report as one JSON document: the GateReport, with the verdict in words and the exit code."""

from __future__ import annotations

from typing import Any

import msgspec

from bench.gate.verdict import GateReport, counts, exit_code, headline


def document(report: GateReport, *, strict: bool = False) -> dict[str, Any]:
    """Plain data, ready to be written; bounds that do not exist are null, never infinite."""
    told = {
        "headline": headline(report),
        "exit_code": int(exit_code(report, strict=strict)),
        "counts": counts(report),
    }
    plain: dict[str, Any] = msgspec.to_builtins(report)
    return told | plain
