"""Torture sweeps: `python -m tools.torture [--kills 200] [--disks 50] [--ooms 30] [--seed 1] [--state FILE] [--json]`

Random kills with resume, full disks with resume (as root: needs mount), kills for want of memory (needs a memory
cgroup). Ends with 1 where anything was lost, duplicated or wrong. With --state it goes on where it stopped; --minutes
stops it early, with exit 75 while something is left to do.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench.errors import Exit
from tools.torture import trial as trials
from tools.torture.full_disk import full_disk, unmountable
from tools.torture.kills import killed_sweep
from tools.torture.out_of_memory import out_of_memory
from tools.torture.trial import Total, Trial, totals

UNFINISHED = 75


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--disks", type=int, default=50)
    parser.add_argument("--ooms", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, help="keep trials here, and go on from what is there")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def more(options: argparse.Namespace, done: list[Trial]) -> Iterator[Trial]:
    """Trials until as many events of each kind have happened as were asked for."""
    no_disk = unmountable() if options.disks else None
    if no_disk and not any(t.kind == "full disk" for t in done):
        yield Trial("full disk", 0, 0, skipped=no_disk)
    kinds = (
        ("out of memory", options.ooms, out_of_memory),
        ("full disk", 0 if no_disk else options.disks, full_disk),
        ("kills", options.kills, killed_sweep),
    )
    for kind, wanted, one in kinds:
        before = [t for t in done if t.kind == kind]
        events, number = sum(t.events for t in before), len(before)
        while events < wanted:
            found = one(number, options.seed)
            yield found
            if found.skipped:
                break
            events, number = events + found.events, number + 1


def main() -> int:
    """Torture as asked; 1 where something was lost, duplicated or wrong."""
    options = _options()
    # A shell starts background jobs with Ctrl-C ignored, and so would be the sweeps that it is sent to.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    deadline = time.monotonic() + 60 * options.minutes
    state = options.state or Path(tempfile.mkdtemp(prefix="torture-state-")) / "trials.jsonl"
    done, left = trials.read(state), False
    subprocess.run([sys.executable, "-m", "bench", "machine", "--json"], stdout=subprocess.DEVNULL, check=True)
    for found in more(options, done):
        done.append(found)
        trials.keep(state, found)
        print(line(found), file=sys.stderr, flush=True)
        if time.monotonic() > deadline:
            left = True
            break
    return tell(totals(done), unfinished=left, as_json=options.json)


def line(found: Trial) -> str:
    """One trial in words."""
    bad = f"lost {found.lost}, duplicated {found.duplicated}" if found.lost + found.duplicated else ""
    said = "; ".join(x for x in (*found.note, bad, *found.wrong, found.skipped or "") if x)
    return f"{found.kind} {found.number}: {said or 'all well'}"


def tell(found: Sequence[Total], *, unfinished: bool, as_json: bool) -> int:
    """Print the totals; the exit code."""
    if as_json:
        print(msgspec.json.encode([t._asdict() for t in found]).decode())
    else:
        for t in found:
            skipped = f"; skipped: {t.skipped}" if t.skipped else ""
            counts = f"{t.lost} lost, {t.duplicated} duplicated, {t.wrong} wrong"
            print(f"{t.kind}: {t.events} in {t.sweeps} sweeps; {counts}{skipped}")
    if any(t.lost + t.duplicated + t.wrong for t in found):
        return Exit.REGRESSION
    return UNFINISHED if unfinished else Exit.OK


if __name__ == "__main__":
    sys.exit(main())
