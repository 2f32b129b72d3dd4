"""Chrome traces of torch.profiler as typed events with times in whole nanoseconds.

Times are parsed from their decimal text: microseconds since 1970 as a double have steps of 0.25 us.
"""

from __future__ import annotations

import gzip
import zlib
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec


class TraceError(ValueError):
    """A trace that cannot be used: which file, and what is wrong with it."""

    def __init__(self, path: Path | str, what: str) -> None:
        """`what` completes the sentence '<path>: ...'."""
        super().__init__(f"{path}: {what}")
        self.path = Path(path)
        self.what = what


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event. `ph` is Chrome's phase: X complete, M metadata, i instant, s and f flows. Times in ns, absolute.

    `sequence` and `forward_thread` are autograd's: a forward op has forward_thread 0, its backward another number.
    """

    name: str
    cat: str
    ph: str
    pid: int | str
    tid: int | str
    ts_ns: int
    dur_ns: int
    sequence: int | None = None
    forward_thread: int | None = None
    correlation: int | None = None
    external_id: int | None = None
    stream: int | str | None = None
    bytes: int | None = None
    input_dims: Any = None

    @property
    def end_ns(self) -> int:
        """When it ended."""
        return self.ts_ns + self.dur_ns


_ZERO = msgspec.Raw(b"0")


class _RawArgs(msgspec.Struct):
    sequence: Any = msgspec.field(name="Sequence number", default=None)
    forward_thread: Any = msgspec.field(name="Fwd thread id", default=None)
    external: Any = msgspec.field(name="External id", default=None)
    external_lower: Any = msgspec.field(name="external id", default=None)
    dims: Any = msgspec.field(name="Input Dims", default=None)
    dims_lower: Any = msgspec.field(name="Input dims", default=None)
    correlation: Any = None
    stream: Any = None
    bytes: Any = None


class _RawEvent(msgspec.Struct):
    ph: str = ""
    name: str = ""
    cat: str = ""
    pid: int | float | str | None = 0
    tid: int | float | str | None = 0
    ts: msgspec.Raw = _ZERO
    dur: msgspec.Raw = _ZERO
    args: _RawArgs | None = None


class _RawTrace(msgspec.Struct):
    events: list[_RawEvent] = msgspec.field(name="traceEvents")


_NO_ARGS = _RawArgs()


def read_events(path: Path) -> list[Event]:
    """Every event of a .json or .json.gz trace, in file order. TraceError where it is absent or damaged."""
    content = _content(path)
    try:
        if content.lstrip()[:1] == b"[":
            raw = msgspec.json.decode(content, type=list[_RawEvent])
        else:
            raw = msgspec.json.decode(content, type=_RawTrace).events
    except msgspec.ValidationError as error:
        raise TraceError(path, f"is JSON but no Chrome trace: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TraceError(
            path, f"is no complete JSON ({error}); was the profiler stopped before it had written?"
        ) from error
    try:
        return [_event(event) for event in raw]
    except (ValueError, InvalidOperation) as error:
        raise TraceError(path, f"holds a time that is no number: {error}") from error


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(path, f"is a damaged gzip file ({error})") from error
    except OSError as error:
        raise TraceError(path, f"cannot be read ({error.strerror})") from error


def _event(raw: _RawEvent) -> Event:
    args = raw.args or _NO_ARGS
    return Event(
        name=raw.name,
        cat=raw.cat,
        ph=raw.ph,
        pid=_identity(raw.pid),
        tid=_identity(raw.tid),
        ts_ns=nanoseconds(bytes(raw.ts)),
        dur_ns=nanoseconds(bytes(raw.dur)),
        sequence=_whole(args.sequence),
        forward_thread=_whole(args.forward_thread),
        correlation=_whole(args.correlation),
        external_id=_whole(args.external if args.external is not None else args.external_lower),
        stream=args.stream,
        bytes=_whole(args.bytes),
        input_dims=args.dims if args.dims is not None else args.dims_lower,
    )


def nanoseconds(text: bytes) -> int:
    """Whole ns of a JSON number of microseconds: b'1.5' is 1500; quotes are ignored. ValueError if no number."""
    whole, _, part = text.strip(b'"').partition(b".")
    if len(part) <= 3 and (part.isdigit() or not part) and whole.isdigit():
        return int(whole) * 1000 + int(part.ljust(3, b"0"))
    if whole == b"null":
        return 0
    return int((Decimal(text.strip(b'"').decode()) * 1000).to_integral_value())


def _identity(value: float | str | None) -> int | str:
    return value if isinstance(value, str | int) else int(value or 0)


def _whole(value: object) -> int | None:
    """A number where there is one; traces of other makers hold text or null in its place."""
    if isinstance(value, int | float):
        return int(value)
    return int(value) if isinstance(value, str) and value.isdigit() else None
