"""The selftest verb: prove the gate by experiment and print what was found."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.commands.output import print_json, print_table, stderr
from bench.errors import Exit, UsageError
from bench.gate.selftest_stats import RUN_CASES, Finding, StatsReport, selftest
from profiles.atomic_file import write_atomically
from workloads.spec import unknown

LIVE = ("aa", "power", "hostile")
RECORDED = ("judge", "keep")
KINDS = ("stats", *LIVE, *RECORDED)


class SelftestOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of `selftest`."""

    what: str
    suite: list[str]
    runs: int | None
    preset: str
    settings: list[str]
    inject_frac: float
    seed: int
    out: Path | None
    resume: Path | None
    as_json: bool


def run_selftest(options: SelftestOptions) -> int:
    """Run the experiment of this name; 0 where what must hold held, else 5."""
    if options.what not in KINDS:
        raise unknown("selftest", options.what, list(KINDS))
    if options.what in LIVE:
        return _run_live(options)
    if options.what in RECORDED:
        return _run_recorded(options)
    if options.suite or options.resume:
        raise UsageError("selftest stats is simulated: it takes no SUITE and no --resume (aa, power and hostile do)")
    return _run_stats(options.seed, options.out, as_json=options.as_json)


def _run_live(options: SelftestOptions) -> int:
    from bench.commands.gate_setup import preset_changes
    from bench.commands.selftest_live import LiveOptions, run_live

    return run_live(
        LiveOptions(
            kind=options.what,
            suite=options.suite,
            runs=options.runs,
            preset=options.preset,
            changes=preset_changes(options.settings),
            inject_frac=options.inject_frac,
            seed=options.seed,
            out=options.out or Path("results/local"),
            resume=options.resume,
            as_json=options.as_json,
        )
    )


def _run_recorded(options: SelftestOptions) -> int:
    from bench.commands.selftest_judge import run_judge, run_keep

    if options.resume or options.settings or options.runs is not None:
        raise UsageError(f"selftest {options.what} measures nothing: it takes the folder, no --resume, --runs or --set")
    if options.what == "keep":
        return run_keep(options.suite, options.out)
    return run_judge(options.suite, options.out, as_json=options.as_json)


def _run_stats(seed: int, out: Path | None, *, as_json: bool) -> int:
    report = selftest(seed)
    if out is not None:
        write_atomically(out, msgspec.json.format(msgspec.json.encode(report), indent=1))
        stderr().print(f"written: {out}", markup=False, soft_wrap=True)
    if as_json:
        print_json(msgspec.to_builtins(report) | {"ok": report.ok})
    else:
        _print(report)
    return Exit.OK if report.ok else Exit.INVALID


def _print(report: StatsReport) -> None:
    rows = [
        [f.law, f.what, f"{f.rate:.5g}", _bound(f), f"{f.cases:,}", "ok" if f.ok else "FAILED"] for f in report.findings
    ]
    print_table("what must hold", ["noise", "sentence", "found", "allowed", "cases", ""], rows, right=[2, 3, 4])
    rules = [
        [
            r.law,
            r.rule,
            f"{r.false_failure_frac:.3%}",
            f"{r.any_of_40_frac:.1%}",
            f"{r.found_frac:.1%}",
        ]
        for r in report.rules
    ]
    columns = ["noise", "rule", "unchanged case fails", f"a run of {RUN_CASES} unchanged fails", "+5 % found"]
    print_table("rules on the same noise", columns, rules, right=[2, 3, 4])
    failed = [f for f in report.findings if not f.ok]
    print("every sentence held" if not failed else f"{len(failed)} sentences did not hold")


def _bound(finding: Finding) -> str:
    return f"{'>=' if finding.at_least else '<='} {finding.allowed:.5g}"
