"""Events as msgspec decodes them: only the fields that are used, everything else is skipped by the decoder."""

from __future__ import annotations

import msgspec

NULL = msgspec.Raw(b"null")
Word = str | int | float | None
"""Writers disagree about what is a number and what is text; the columns decide."""


class RawArgs(msgspec.Struct, gc=False):
    """The arguments that some analysis uses. None: the event did not say."""

    external: Word = msgspec.field(name="External id", default=None)
    external_lower: Word = msgspec.field(name="external id", default=None)
    sequence: Word = msgspec.field(name="Sequence number", default=None)
    forward_thread: Word = msgspec.field(name="Fwd thread id", default=None)
    dims: msgspec.Raw = msgspec.field(name="Input Dims", default=NULL)
    dims_lower: msgspec.Raw = msgspec.field(name="Input dims", default=NULL)
    types: msgspec.Raw = msgspec.field(name="Input type", default=NULL)
    concrete: msgspec.Raw = msgspec.field(name="Concrete Inputs", default=NULL)
    correlation: Word = None
    stream: Word = None
    bytes: Word = None
    collective: Word = msgspec.field(name="Collective name", default=None)
    dtype: Word = None
    in_elements: Word = msgspec.field(name="In msg nelems", default=None)
    out_elements: Word = msgspec.field(name="Out msg nelems", default=None)
    group_size: Word = msgspec.field(name="Group size", default=None)
    group: Word = msgspec.field(name="Process Group Name", default=None)
    memory_bytes: Word = msgspec.field(name="Bytes", default=None)
    total_allocated: Word = msgspec.field(name="Total Allocated", default=None)
    total_reserved: Word = msgspec.field(name="Total Reserved", default=None)
    device_type: Word = msgspec.field(name="Device Type", default=None)
    device_id: Word = msgspec.field(name="Device Id", default=None)
    name: Word = None
    labels: Word = None


class RawEvent(msgspec.Struct, gc=False):
    """One element of traceEvents. Times stay text: as doubles they would lose nanoseconds."""

    ph: str | None = None
    cat: str | None = None
    name: str | None = None
    pid: Word = None
    tid: Word = None
    ts: msgspec.Raw = NULL
    dur: Word = None
    id: Word = None
    args: RawArgs | None = None


class RawBareEvent(msgspec.Struct, gc=False):
    """An event whose arguments are not what they should be, without them."""

    ph: str | None = None
    cat: str | None = None
    name: str | None = None
    pid: Word = None
    tid: Word = None
    ts: msgspec.Raw = NULL
    dur: Word = None


NO_ARGS = RawArgs()
EVENTS = msgspec.json.Decoder(list[RawEvent])
EVENT = msgspec.json.Decoder(RawEvent)
BARE_EVENT = msgspec.json.Decoder(RawBareEvent)
KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
ANY = msgspec.json.Decoder()
DAMAGE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises on bytes that are not what it expects."""


def events_of(array: bytes | bytearray | memoryview | msgspec.Raw) -> list[RawEvent] | None:
    """The events of a JSON array, None where it is not one."""
    try:
        return EVENTS.decode(array)
    except DAMAGE:
        return None
