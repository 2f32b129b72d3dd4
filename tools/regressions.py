"""Do both tiers find what people do by mistake? `python -m tools.regressions [--preset quick] [--tries 1] [--json]`

In a git repository made for it, three steps of a few milliseconds are changed as reviews let it pass: a pooling factor
of 10 becomes 11, a transposed operand is made contiguous before a product, a fused product with bias and ReLU comes
apart into three operators. `gate --counters-only` and then the whole gate compare the changed tree with the commit,
beside a step that nobody touched; printed are how long each took, what it says of each case, and its exit code.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

STEPS = """
import torch

BATCH, ROWS, DIM = 4096, 200_000, 64
POOLING = 10

def lookup():
    table = torch.nn.EmbeddingBag(ROWS, DIM, mode="sum")
    inputs = [torch.randint(0, ROWS, (BATCH, POOLING)) for _ in range(8)]
    number = 0
    def step():
        nonlocal number
        number = (number + 1) % len(inputs)
        with torch.no_grad():
            return table(inputs[number])
    return step

def interaction():
    features = torch.randn(BATCH // 4, 27, DIM)
    def step():
        return torch.bmm(features, features.transpose(1, 2))
    return step

def layer():
    x, weight, bias = torch.randn(BATCH // 2, DIM), torch.randn(DIM, 4 * DIM), torch.randn(4 * DIM)
    def step():
        return torch.addmm(bias, x, weight).relu_()
    return step

def untouched():
    x, weight = torch.randn(BATCH // 4, 8 * DIM), torch.randn(8 * DIM, DIM)
    return lambda: x @ weight
"""
EDITS = {
    "POOLING = 10": "POOLING = 11",
    "features.transpose(1, 2))": "features.transpose(1, 2).contiguous())",
    "torch.addmm(bias, x, weight).relu_()": "torch.relu(x @ weight + bias)",
}
SUITE = tuple(f"steps.py:{name}" for name in ("lookup", "interaction", "layer", "untouched"))


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What one tier says: seconds, exit code, and per case its status and reason."""

    tier: str
    took_s: float
    exit_code: int
    cases: dict[str, tuple[str, str]]


def git(folder: Path, *arguments: str) -> None:
    """A git command with an identity of its own."""
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def changed_repository(folder: Path) -> None:
    """The steps committed, and the three mistakes in the working tree."""
    steps = folder / "steps.py"
    steps.write_text(STEPS)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    text = STEPS
    for old, new in EDITS.items():
        assert old in text
        text = text.replace(old, new)
    steps.write_text(text)


def gate(folder: Path, tier: str, *flags: str) -> Told:
    """One gate run of the working tree against the commit."""
    command = [sys.executable, "-m", "bench", "gate", "--base", "HEAD", *SUITE, *flags, "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    took_s = time.perf_counter() - began
    report: dict[str, Any] = json.loads(done.stdout)
    cases = {c["case"]: (c["status"], c["reason"]["message"]) for c in report["cases"]}
    return Told(tier=tier, took_s=took_s, exit_code=done.returncode, cases=cases)


def main() -> None:
    """Print what each tier says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--tries", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told = []
    for _ in range(options.tries):
        with tempfile.TemporaryDirectory(prefix="dlrm-bench-regressions-") as folder:
            changed_repository(Path(folder))
            told.append(gate(Path(folder), "counters", "--counters-only"))
            told.append(gate(Path(folder), "counters and time", "--preset", options.preset))
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(told)).decode())
        return
    for one in told:
        print(f"{one.tier}: {one.took_s:.1f} s, exit code {one.exit_code}")
        for case, (status, reason) in one.cases.items():
            print(f"  {case:24} {status:13} {reason}")


if __name__ == "__main__":
    main()
