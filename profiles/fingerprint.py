"""Identity of a machine in three tiers: hard facts are hashed, soft ones warn, volatile ones are only noted.

The allocator *library* is a hard fact; whether it is pinned is an axis of the case and part of the case's key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from profiles.machine import Cpu, Fingerprint, Gpu, Software
from profiles.probes.cpu import isa_flags

# Part of every hash: raised when the meaning of a hard field changes, so that old ceilings are measured anew.
HARD_SCHEMA = 1
_HASH_DIGITS = 16


def hash_hard(hard: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the hard tier, independent of the order of its keys."""
    return hashlib.sha256(msgspec.json.encode(hard, order="deterministic")).hexdigest()[:_HASH_DIGITS]


def hard_facts(cpu: Cpu, gpus: Sequence[Gpu], software: Software, allocator: str) -> dict[str, Any]:
    """The facts whose difference makes two results not comparable."""
    return {
        "schema": HARD_SCHEMA,
        "cpu": [cpu.vendor, cpu.name, cpu.family, cpu.model, cpu.stepping],
        "isa": list(isa_flags(cpu.flags)),
        "visible_cpus": cpu.logical_cpus,
        "quota_cpus": cpu.quota_cpus,
        "gpus": [[g.name, g.sm_count, g.memory_bytes >> 20, g.mig, g.driver.partition(".")[0]] for g in gpus],
        "torch": software.torch,
        "cuda": software.cuda,
        "blas": software.blas,
        "python": ".".join(software.python.split(".")[:2]),
        "allocator": allocator,
    }


def make_fingerprint(hard: dict[str, Any], soft: dict[str, Any], volatile: dict[str, Any]) -> Fingerprint:
    """Join the tiers and hash the hard one."""
    return Fingerprint(hash=hash_hard(hard), hard=hard, soft=soft, volatile=volatile)


def fingerprint_diff(a: Fingerprint, b: Fingerprint) -> list[tuple[str, Any, Any]]:
    """('hard.torch', value in a, value in b) for every hard and soft field that differs, hard ones first.

    A field that only one side has shows None on the other. Volatile fields never differ.
    """
    return [
        (f"{tier}.{name}", left.get(name), right.get(name))
        for tier, left, right in (("hard", a.hard, b.hard), ("soft", a.soft, b.soft))
        for name in sorted({*left, *right})
        if left.get(name) != right.get(name)
    ]
