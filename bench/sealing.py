"""Seals of results: each JSON object ends with a digest of itself, so that a torn or edited one is noticed. Pure.

A sealed object's last member is `"sha256"`: the first 16 hex digits of the SHA-256 of the object without that member,
as written on one line without spaces. It guards against accidents, not against someone who seals anew.
"""

from __future__ import annotations

import hashlib

import msgspec

DIGITS = 16
_OPEN, _CLOSE = b',"sha256":"', b'"}'
_TAIL_BYTES = len(_OPEN) + DIGITS + len(_CLOSE)


class BrokenSealError(ValueError):
    """The object is not what was sealed."""


def seal(plain: bytes) -> bytes:
    """A JSON object on one line, with its seal as the last member."""
    return plain[:-1] + _OPEN + _digest(plain) + _CLOSE


def unseal(data: bytes) -> bytes | None:
    """The object without its seal; None where it has none. Raises BrokenSealError where the two do not match."""
    tail = data[-_TAIL_BYTES:]
    if not (tail.startswith(_OPEN) and tail.endswith(_CLOSE)):
        return None
    plain = data[:-_TAIL_BYTES] + b"}"
    if tail[len(_OPEN) : -len(_CLOSE)] != _digest(plain):
        raise BrokenSealError("it is not what was written: its checksum does not match")
    return plain


def is_whole(data: bytes) -> bool:
    """Whether this is a sealed object and nothing is missing."""
    try:
        return unseal(data) is not None
    except BrokenSealError:
        return False


def unseal_document(data: bytes) -> bytes | None:
    """As `unseal`, of an object over several lines. Raises msgspec.DecodeError too, where it is no JSON."""
    return unseal(msgspec.json.format(data.strip(), indent=-1))


def _digest(plain: bytes) -> bytes:
    return hashlib.sha256(plain).hexdigest()[:DIGITS].encode()
