"""What the doctor says of one thing."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "warn", "missing"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at: what was found, and what to do about it where something can be done."""

    topic: str
    level: Level
    found: str
    cure: str | None = None
