"""Text that is safe on a terminal."""

from __future__ import annotations

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def printable(text: str) -> str:
    """Control characters spelt out: a name in a results file must not move the cursor or set a terminal's title."""
    return text.translate(_CONTROLS)
