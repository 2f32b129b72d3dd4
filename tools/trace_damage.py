"""Damage traces at random and inspect them: `python -m tools.trace_damage [TRACE...] [--count 5000] [--seed 0]`

Bytes of each trace are changed, inserted, removed and moved, and the file is cut; of a gzip file sometimes the packed
bytes, sometimes the text. `inspect --json` (and every 20th time the page and the tables too) must answer each with exit
code 0 and a line of data quality, or with 2 and one line that names the file. Without TRACE, three real ones beside the
project. Ends with 1 if anything else happens; the file that did it is kept in --keep.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

SHARED = Path(__file__).parent.parent.parent / "shared/traces/open"
DEFAULT = ("amd_mi250_minitoy", "tb_gpu_metrics_V100", "triton_single_kernel_A100")
PAGE_EVERY = 20
TELL_EVERY = 1000
LONGEST_MESSAGE = 500
WORDS = (
    b"NaN",
    b"-1",
    b"1e999",
    b"\\",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"null",
    b"\xff",
    b"\x00",
    b"9" * 40,
    b"{}",
)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, inserted, removed, moved, or the file cut."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        at, length = chance.randrange(len(changed) + 1), chance.randint(1, 200)
        match chance.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                changed[at:at] = chance.choice(WORDS)
            case 2:
                word = chance.choice(WORDS)
                changed[at : at + len(word)] = word
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at // 2 : at // 2 + length]
            case _:
                del changed[chance.randrange(len(changed) + 1) :]
    return bytes(changed)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A damaged copy; of a gzip file every other time the text, packed again."""
    if content[:2] == b"\x1f\x8b" and chance.random() < 0.5:
        return gzip.compress(mutated(gzip.decompress(content), chance), 1)
    return mutated(content, chance)


def command(*arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of dlrm-bench, in this process. What is raised is raised."""
    from bench.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), patch.object(sys, "argv", ["x", *arguments]):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


def wrong(path: Path, *, page: bool) -> tuple[str, str | None]:
    """(what was answered, what is wrong with it or None)."""
    try:
        code, out, err = command("inspect", str(path), "--json")
        if code == 2:
            clear = str(path) in err and err.startswith("error: ") and len(err) <= LONGEST_MESSAGE and not out
            return "refused", None if clear else f"unclear message: {err!r}"
        if code != 0:
            return "other", f"exit code {code}"
        found = json.loads(out, parse_constant=lambda word: word)
        if not found["quality"]["line"]:
            return "read", "no line of data quality"
        if page:
            codes = command("inspect", str(path))[0], command("inspect", str(path), "--html", f"{path}.html")[0]
            return "read", None if codes == (0, 0) else f"exit codes {codes} of tables and page"
    except Exception:
        return "raised", traceback.format_exc()
    return "read", None


def try_one(content: bytes, seed: str, path: Path, *, page: bool = False) -> tuple[str, str | None]:
    """Damage `content` as `seed` says, write it to `path`, inspect it."""
    path.write_bytes(damaged(content, random.Random(seed)))
    return wrong(path, page=page)


def default_traces() -> list[Path]:
    """The real traces that are damaged where none is named."""
    if not SHARED.is_dir():
        raise SystemExit(f"no traces in {SHARED}: name some")
    return [min((SHARED / name).iterdir()) for name in DEFAULT]


def run(traces: Sequence[Path], count: int, seed: int, keep: Path) -> int:
    """Damage the traces in turn; the number of wrong answers."""
    contents, faults = [path.read_bytes() for path in traces], 0
    answers = [Counter[str]() for _ in traces]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.json"
        for number in range(count):
            which = number % len(traces)
            answer, fault = try_one(contents[which], f"{seed}-{number}", path, page=number % PAGE_EVERY == 0)
            answers[which][answer] += 1
            if fault is not None:
                faults += 1
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed}-{number}.json").write_bytes(path.read_bytes())
                print(f"{traces[which].name}, seed {seed}-{number}: {fault}", flush=True)
            if (number + 1) % TELL_EVERY == 0:
                print(f"{number + 1} of {count} damaged files, {faults} wrong answers", flush=True)
    for trace, told in zip(traces, answers, strict=True):
        print(f"{trace.name}: " + ", ".join(f"{told[word]} {word}" for word in sorted(told)))
    return faults


def main() -> None:
    """Damage, inspect, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="*", type=Path, metavar="TRACE")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("damaged"), help="folder for files with a wrong answer")
    chosen = parser.parse_args()
    faults = run(chosen.traces or default_traces(), chosen.count, chosen.seed, chosen.keep)
    print(f"{chosen.count} damaged files, {faults} wrong answers")
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
