"""The bytes of a trace file in pieces, unpacked where it is gzip, as far as it goes where it is damaged."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from profiles.trace.errors import TraceError

PIECE_BYTES = 1 << 20
_PACKED_BYTES = 1 << 18
_GZIP = b"\x1f\x8b"
_CAREFUL_BYTES = 16
Progress = Callable[[float], None]
"""Told the share of the file that has been read, 0 to 1."""


class Decompressor(Protocol):
    """Of zlib's object, what is used here."""

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        """The text of some packed bytes."""


class Source:
    """One file. After `pieces` ends, `damage` says what was wrong with the packing, None if nothing."""

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self.path = path
        self.damage: str | None = None
        self._progress = progress or (lambda _: None)

    def pieces(self) -> Iterator[bytes]:
        """Pieces of at most PIECE_BYTES of text. TraceError where the file cannot be read."""
        try:
            size = max(self.path.stat().st_size, 1)
            with self.path.open("rb") as file:
                packed = file.read(2) == _GZIP
                file.seek(0)
                raw = self._reported(iter(lambda: file.read(_PACKED_BYTES if packed else PIECE_BYTES), b""), size)
                yield from self._unpacked(raw) if packed else raw
        except OSError as error:
            raise TraceError(self.path, f"cannot be read ({error.strerror or error})") from error

    def _reported(self, raw: Iterator[bytes], size: int) -> Iterator[bytes]:
        done = 0
        for piece in raw:
            done += len(piece)
            self._progress(done / size)
            yield piece

    def _unpacked(self, raw: Iterator[bytes]) -> Iterator[bytes]:
        """Every member of a gzip file; zeros after a member are padding."""
        member, begun, position, rest = zlib.decompressobj(31), False, 0, b""
        for piece in raw:
            position += len(piece)
            rest += piece
            while rest and (begun or len(rest) >= len(_GZIP)):
                if not begun and not rest.startswith(_GZIP):
                    self.damage = f"bytes that are no gzip data follow at byte {position - len(rest)}"
                    return
                saved, begun = member.copy(), True
                try:
                    text = member.decompress(rest, PIECE_BYTES)
                except zlib.error as error:
                    self.damage = f"the gzip data are damaged near byte {position - len(rest)} ({error})"
                    yield _salvaged(saved, rest)
                    return
                yield text
                rest = member.unconsumed_tail
                if member.eof:
                    rest, member, begun = member.unused_data.lstrip(b"\0"), zlib.decompressobj(31), False
        while begun and (text := member.decompress(b"", PIECE_BYTES)):
            yield text
        if begun and not member.eof:
            self.damage = f"the gzip data end at byte {position} without their end mark"


def _salvaged(member: Decompressor, packed: bytes) -> bytes:
    """What can be unpacked before the damage."""
    found = bytearray()
    try:
        for at in range(0, len(packed), _CAREFUL_BYTES):
            found += member.decompress(packed[at : at + _CAREFUL_BYTES])
            if len(found) > PIECE_BYTES:
                break
    except zlib.error:
        pass
    return bytes(found)
