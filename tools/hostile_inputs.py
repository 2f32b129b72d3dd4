"""Hostile input by the thousand: `python -m tools.hostile_inputs [--examples 10000] [--seed 1] [--json]`

Generated command lines, sweep files and presets; mutated sweep files, presets and run folders (as they are, and with
their checksums made anew, so that what lies behind the checksum is met too). Each goes through the real command line in
this process and must end with an answer or one clear error, a documented exit code, no traceback, and soon. Prints how
each kind ended; ends with 1 at the first that does not, and keeps its files.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec

from bench import cli, store
from bench.errors import Exit
from bench.sealing import seal, unseal
from bench.sweep_spec import AXES, LIMIT_FIELDS, SWEEPS
from workloads import presets

DOCUMENTED = frozenset(int(code) for code in Exit)
PATIENCE_S = 60
SMALL_BYTES = 1000
NUMBERS = ("0", "1", "-1", "2", "7", "64", "1e3", "1e30", "-1e-9", "nan", "inf", "0.5", "9" * 25, "true", "''", "none")
WORDS = (
    *("bag", "tbe", "tbe_int", "cuda", "cuda:99", "cpu", "forward", "train_step", "float16", "int4", "zipf", "uniform"),
    *("mean", "sum", "dlrm", "fm", "mf", "poly2", "dcnv2", "dot", "adam", "../../etc/passwd", "\u202e", "a,b", "{}"),
    *("[1", "x" * 300, "<script>", "[/red]", "\x1b]0;x\x07"),
)
SOUND = {
    "batch_size": ("1", "64"),
    "dim": ("4", "8", "16"),
    "num_rows": ("10", "1000"),
    "seed": ("0", "3"),
    "backend": ("bag", "fused_bag", "tbe"),
    "phase": ("forward", "train_step"),
    "dtype": ("float32", "bfloat16"),
    "indices": ("uniform", "zipf"),
    "cache_mode": ("hot", "cold"),
}
"""Values that these axes can have, so that not everything ends at its first flag."""
NOISE = (
    *(b"", b"\x00", b"}", b'"', b"-", b"9" * 30, b"[[grid]]", b"null", b"NaN", b"{", b"\n", b"\r", b"1e999", b"[" * 50),
    *("é".encode(), b"\xff"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**63, -(2**70), 0.0, -0.5, 1e308),
    *("", "x", "\u202e<b>", "0", [], [0], {}),
)


class Ended(NamedTuple):
    """How one command ended. `trouble` says what is wrong with that; None where nothing is."""

    code: int
    trouble: str | None


class Example(NamedTuple):
    """One hostile input: its words on the command line."""

    kind: str
    words: tuple[str, ...]


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """TimeoutError where it takes longer than PATIENCE_S."""

    def late(*_: object) -> None:
        raise TimeoutError(f"no end after {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(words: tuple[str, ...]) -> Ended:
    """Call the program with these words, and judge how it ended."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["dlrm-bench", *words]),
        mock.patch("bench.interrupts.install"),
        # Drawing takes seconds; the plots have tests of their own.
        mock.patch("bench.reporting.report.draw_pictures", return_value=[]),
        mock.patch("bench.reporting.report.draw_section_pictures", return_value=[]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            with _in_time():
                cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        except BaseException as error:
            return Ended(-1, f"{type(error).__name__} escaped: {str(error)[:300]}")
    return Ended(code, judged(code, out.getvalue(), err.getvalue(), as_json="--json" in words))


def judged(code: int, out: str, err: str, *, as_json: bool) -> str | None:
    """What is wrong with an ending, or None."""
    if code not in DOCUMENTED:
        return f"exit code {code} is not documented"
    if "Traceback" in err:
        return f"a traceback: {err[-300:]}"
    if "\x1b]" in out + err:
        return "it writes to the terminal's title"
    if code == Exit.USAGE and not (err.startswith("error: ") and len(err.strip()) > len("error: ") + 10):
        return f"exit 2 without a clear message: {err!r}"
    if code == Exit.OK and as_json:
        try:
            msgspec.json.decode(out)
        except msgspec.DecodeError as error:
            return f"not one JSON document: {error}"
    return None


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or inserted; or the end cut off."""
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(data) + 1), chance.choice((0, 1, 2, 8, 60))
        kind = chance.randrange(4)
        if kind == 0:
            data = data[:at] + chance.choice(NOISE) + data[at + length :]
        elif kind == 1:
            data = data[:at] + data[at + length :]
        elif kind == 2:
            data = data[:at] + data[at : at + length] + data[at:]
        else:
            data = data[:at] if chance.random() < 0.2 else data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
    return data


def changed(plain: Any, chance: random.Random) -> Any:
    """A JSON value with one part of it, chosen at random, replaced, taken out or doubled."""
    if isinstance(plain, dict) and plain and chance.random() < 0.93:
        key = chance.choice(list(plain))
        if chance.random() < 0.05:
            return {k: v for k, v in plain.items() if k != key}
        return plain | {key: changed(plain[key], chance)}
    if isinstance(plain, list) and plain and chance.random() < 0.9:
        at = chance.randrange(len(plain))
        return [*plain[:at], changed(plain[at], chance), *plain[at + (chance.random() < 0.9) :]]
    return chance.choice(VALUES)


def setting(chance: random.Random) -> tuple[str, str]:
    """A name and a value for it: sound ones, or a known name with any value, or anything."""
    if chance.random() < 0.7:
        name = chance.choice(list(SOUND))
        return name, chance.choice(SOUND[name])
    name = chance.choice((*AXES, *AXES, *LIMIT_FIELDS, "rowz", "", "name"))
    return name, chance.choice((*NUMBERS, *WORDS))


def flag(chance: random.Random) -> str:
    """NAME=VALUES."""
    name, value = setting(chance)
    return f"{name}={value}" if chance.random() < 0.8 else f"{name}={value},{setting(chance)[1]}"


def command_line(home: Path, chance: random.Random) -> Example:
    """describe or sweep --plan of a preset, with flags of all kinds."""
    preset = chance.choice((*presets.names(), *presets.names(), "papr", "../x", ""))
    axes = [word for _ in range(chance.randint(0, 3)) for word in ("--axis", flag(chance))]
    if chance.random() < 0.5:
        return Example("command line", ("describe", preset, *axes, "--json"))
    file = home / "one.toml"
    file.write_text(f'[[grid]]\npreset = "{preset}"\n')
    fixed = [word for _ in range(chance.randint(0, 2)) for word in ("--set", flag(chance))]
    return Example("command line", ("sweep", str(file), "--plan", "--json", *axes, *fixed))


def generated_sweep(home: Path, chance: random.Random) -> Example:
    """A sweep file made from parts that a sweep file has, in any combination and with any value."""

    def line(listed: bool) -> str:
        name, value = setting(chance)
        plain = value if value.lstrip("-").isdigit() or chance.random() < 0.2 else json.dumps(value)
        return f"{name or 'x'} = [{plain}]" if listed else f"{name or 'x'} = {plain}"

    def table(head: str, *, listed: bool = False) -> str:
        lines = [line(listed) for _ in range(chance.randint(0, 3))]
        return "\n".join([head, *lines])

    parts = [table("[limits]")] if chance.random() < 0.1 else []
    for _ in range(chance.randint(1, 2)):
        parts += [f'[[grid]]\npreset = "{chance.choice(("tiny", "tiny", "paper", "x"))}"']
        parts += [table("[grid.axes]", listed=chance.random() < 0.9)] if chance.random() < 0.7 else []
        parts += [table("[grid.set]")] if chance.random() < 0.4 else []
    parts += (
        [table(chance.choice(("[quality]", "[quality.training]", "[grid]", "[x")))] if chance.random() < 0.1 else []
    )
    file = home / "made.toml"
    file.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return Example("generated sweep file", ("sweep", str(file), "--plan", "--json"))


def mutated_sweep(home: Path, chance: random.Random) -> Example:
    """A sweep file of ours with some bytes changed."""
    small = [p for p in sorted(SWEEPS.glob("*.toml")) if p.stat().st_size < SMALL_BYTES]
    file = home / "mutated.toml"
    file.write_bytes(mutated(chance.choice(small).read_bytes(), chance))
    return Example("mutated sweep file", ("sweep", str(file), "--plan", "--json"))


def mutated_preset(home: Path, chance: random.Random) -> Example:
    """A preset of ours with some bytes changed."""
    file = home / "preset.toml"
    file.write_bytes(mutated(chance.choice(sorted(presets.FOLDER.glob("*.toml"))).read_bytes(), chance))
    return Example("mutated preset", ("describe", str(file), "--json"))


def verb(run_dir: Path, chance: random.Random) -> tuple[str, ...]:
    """A verb that reads a run folder."""
    one = str(run_dir)
    return chance.choice(
        (
            ("show", one, "--json"),
            ("show", one),
            ("show", one, "--csv"),
            ("show", one, "--quality", "--json"),
            ("compare", one, one, "--json"),
            ("report", one),
        )
    )


def mutated_results(home: Path, chance: random.Random) -> Example:
    """A run folder with some bytes of one file changed."""
    run_dir = _copied(home)
    file = _one_file(run_dir, chance)
    file.write_bytes(mutated(file.read_bytes(), chance))
    return Example("mutated results", verb(run_dir, chance))


def resealed_results(home: Path, chance: random.Random) -> Example:
    """A run folder in which one object was changed by somebody who made its checksum anew."""
    run_dir = _copied(home)
    file = _one_file(run_dir, chance)
    whole = [msgspec.json.format(file.read_bytes(), indent=-1)] if file.name == store.MANIFEST else None
    lines = whole or file.read_bytes().splitlines()
    at = chance.randrange(len(lines))
    plain = unseal(lines[at]) or lines[at]
    if chance.random() < 0.5:
        lines[at] = seal(msgspec.json.encode(changed(msgspec.json.decode(plain), chance)))
    else:
        lines[at] = seal(mutated(plain, chance) or b"{}")
    file.write_bytes(b"\n".join(lines) + b"\n")
    return Example("results sealed anew", verb(run_dir, chance))


def _one_file(run_dir: Path, chance: random.Random) -> Path:
    names = (store.MANIFEST, store.RECORDS, store.REMEASURED, store.TRIALS)
    return chance.choice([run_dir / name for name in names if (run_dir / name).exists()])


def _copied(home: Path) -> Path:
    run_dir = home / "copy"
    shutil.rmtree(run_dir, ignore_errors=True)
    return Path(shutil.copytree(home / "run", run_dir))


MAKERS: tuple[Callable[[Path, random.Random], Example], ...] = (
    command_line,
    generated_sweep,
    mutated_sweep,
    mutated_preset,
    mutated_results,
    resealed_results,
)


def examples(home: Path, run_dir: Path, number: int, seed: int) -> Iterator[Example]:
    """This many, kind by kind in turn. `run_dir` is a run that is read; every file is made in `home`."""
    shutil.copytree(run_dir, home / "run")
    for i in range(number):
        yield MAKERS[i % len(MAKERS)](home, random.Random(f"{seed} {i}"))


def main() -> int:
    """Try as many as asked; 1 at the first that ends badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder, with quality trials best, to be mutated")
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    counts: dict[str, Counter[int]] = {}
    longest_s, home = 0.0, Path(tempfile.mkdtemp(prefix="hostile-"))
    for number, example in enumerate(examples(home, options.run, options.examples, options.seed)):
        began = time.perf_counter()
        ended = run(example.words)
        longest_s = max(longest_s, time.perf_counter() - began)
        counts.setdefault(example.kind, Counter())[ended.code] += 1
        if ended.trouble:
            print(f"example {number}, {example.kind}: {ended.trouble}\n{example.words}\nkept: {home}", file=sys.stderr)
            return Exit.REGRESSION
    shutil.rmtree(home)
    told = {kind: {str(code): n for code, n in sorted(found.items())} for kind, found in counts.items()}
    if options.json:
        print(json.dumps({"examples": options.examples, "longest_s": longest_s, "exit_codes": told}))
    else:
        print(f"{options.examples} examples, the longest {longest_s:.1f} s; how many ended with which exit code:")
        print("\n".join(f"{kind:22} {codes}" for kind, codes in told.items()))
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
