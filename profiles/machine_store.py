"""Ceilings kept between runs: one JSON file per machine fingerprint, written atomically."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from profiles.atomic_file import write_atomically
from profiles.machine import Ceilings

STORE_SCHEMA = 1


class StoredMachine(msgspec.Struct, frozen=True, kw_only=True):
    """The content of one file: ceilings per device."""

    schema_version: int
    fingerprint: str
    ceilings: dict[str, Ceilings]


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: ceilings per device (empty: measure them), and a note: why a file was not used or is in doubt."""

    ceilings: dict[str, Ceilings] = {}
    note: str | None = None


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """$DLRM_BENCH_CACHE, else $XDG_CACHE_HOME/dlrm-bench, else ~/.cache/dlrm-bench."""
    env = os.environ if environ is None else environ
    if env.get("DLRM_BENCH_CACHE"):
        return Path(env["DLRM_BENCH_CACHE"])
    base = env.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dlrm-bench"


def ceilings_path(fingerprint_hash: str) -> Path:
    """File that holds the ceilings of the machine with this hard fingerprint."""
    return cache_folder() / "machines" / f"{fingerprint_hash}.json"


def load_ceilings(fingerprint_hash: str) -> Loaded:
    """Ceilings measured before on this machine. A damaged file is reported in `note`, never an error."""
    path = ceilings_path(fingerprint_hash)
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=StoredMachine)
    except FileNotFoundError:
        return Loaded()
    except (OSError, msgspec.DecodeError) as error:
        return Loaded(note=f"{path} cannot be used ({error}); the ceilings are measured again.")
    if stored.schema_version != STORE_SCHEMA or stored.fingerprint != fingerprint_hash:
        return Loaded(note=f"{path} is of another version or machine; the ceilings are measured again.")
    return Loaded(ceilings=stored.ceilings, note=disturbance_note(stored.ceilings))


def disturbance_note(ceilings: Mapping[str, Ceilings]) -> str | None:
    """A sentence naming the devices whose ceilings were measured beside other load, None where there are none."""
    busy = [f"{d} ({c.other_load_frac:.0%})" for d, c in ceilings.items() if c.disturbed]
    if not busy:
        return None
    return f"Others took CPU time while these ceilings were measured: {', '.join(busy)}. They may be too low; refresh."


def save_ceilings(fingerprint_hash: str, ceilings: Ceilings) -> Path:
    """Add or replace the ceilings of one device; the other devices of the file stay. OSError where not writable."""
    path = ceilings_path(fingerprint_hash)
    kept = load_ceilings(fingerprint_hash).ceilings | {ceilings.device: ceilings}
    stored = StoredMachine(schema_version=STORE_SCHEMA, fingerprint=fingerprint_hash, ceilings=kept)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(stored), indent=1))
    return path
