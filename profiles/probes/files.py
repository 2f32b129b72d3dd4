"""Reading small kernel files: text where it is readable, None where it is not."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """Text of `path` without its final newline, or None where it is absent or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """The decimal number in `path`, or None where there is none."""
    text = read_text(path)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """CPU numbers of a kernel list such as '0-3,8'; empty for empty text. ValueError on anything else."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            numbers.extend(range(int(first), int(last or first) + 1))
    return tuple(numbers)
