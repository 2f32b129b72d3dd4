"""Names of processes and threads from metadata events, and the keys that stand beside the events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profiles.trace.columns import Lane, Metadata, Process
from profiles.trace.decode import NO_ARGS, RawEvent
from profiles.trace.fields import Key, process


class Labels:
    """Collects the names; `metadata` puts them together with the top-level keys."""

    def __init__(self) -> None:
        self._process_names: dict[Process, str] = {}
        self._process_labels: dict[Process, str] = {}
        self._thread_names: dict[Lane, str] = {}

    def add(self, event: RawEvent) -> None:
        """One event of phase M; those that name nothing are passed over."""
        args = event.args or NO_ARGS
        pid, said = process(event.pid), args.labels if event.name == "process_labels" else args.name
        if not isinstance(said, str):
            return
        if event.name == "process_name":
            _keep(self._process_names, pid, said)
        elif event.name == "process_labels":
            _keep(self._process_labels, pid, said)
        elif event.name == "thread_name":
            _keep(self._thread_names, (pid, process(event.tid)), said)

    def metadata(self, head: Mapping[str, Any]) -> Metadata:
        """`head` are the keys of the file beside traceEvents; what is not of the expected type counts as absent."""
        other = dict(head)
        devices = other.pop("deviceProperties", None) or other.pop("computeProperties", None)
        distributed = other.pop("distributedInfo", None)
        return Metadata(
            devices=tuple(d for d in devices if isinstance(d, dict)) if isinstance(devices, list) else (),
            distributed=distributed if isinstance(distributed, dict) else {},
            process_names=self._process_names,
            process_labels=self._process_labels,
            thread_names=self._thread_names,
            other=other,
        )


def _keep(names: dict[Key, str], key: Key, said: str) -> None:
    """Of several names the longest, whatever their order: 'pt_autograd_0' says more of a thread than 'python3'."""
    names[key] = max(names.get(key, ""), said, key=lambda name: (len(name), name))
