"""Comparisons: ranks by brute force, rules by hand-made steps, and real pairs of traces."""

import gzip
import itertools
import json
import re
from math import comb
from pathlib import Path

import numpy as np
import pytest

from bench.errors import Exit
from bench.inspection.against import Profiled, compare
from bench.inspection.model_tables import comparison_line, comparison_tables
from bench.inspection.modelling import Lens, analyse
from bench.inspection.ranksum import least_p, shift
from profiles.trace.reader import read_trace
from profiles.trace.rules import load_rules
from profiles.trace.stepwise import StepProfile

TRACES = Path(__file__).parents[3] / "shared" / "traces" / "open"


# Ranks


@pytest.mark.parametrize(("n", "m", "alpha"), [(3, 4, 0.2), (5, 5, 0.05), (6, 6, 0.05), (6, 6, 0.005), (4, 7, 0.1)])
def test_the_interval_holds_its_level_by_enumerating_every_order(n, m, alpha):
    """All orders of n + m values are equally likely where nothing changed: the interval misses 0 in at most alpha."""
    missed = 0
    for places in itertools.combinations(range(n + m), n):
        first = [float(v) for v in places]
        second = [float(v) for v in range(n + m) if v not in places]
        found = shift(first, second, alpha)
        missed += found.low > 0 or found.high < 0
    assert missed <= alpha * comb(n + m, n)
    # And no narrower interval would have held it: one more order on each side is too many.
    assert missed > 0


def test_too_few_values_have_no_interval():
    assert shift([1.0], [2.0], 0.05) == (1.0, None, None)
    assert shift([1.0, 2.0], [3.0, 4.0], 0.05)[1:] == (None, None)
    assert least_p(6, 6) == pytest.approx(2 / 924)
    assert least_p(1, 1) == 1.0
    with pytest.raises(ValueError, match="need a value"):
        shift([], [1.0], 0.05)


def test_many_values_by_the_normal_law():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0, 1, 60).tolist(), rng.normal(2, 1, 60).tolist()
    found = shift(first, second, 0.01)
    assert found.low < 2 < found.high
    assert found.low > 1


# Rules


def steps_of(parts, counters=None, waiting=None, on_gpu=True, wall=None, **identity):
    """`wall`: what the steps took on the host; without it the device works all the time."""
    columns = {part: np.array(values, np.int64) for part, values in parts.items()}
    total = np.sum(list(columns.values()), axis=0)
    profile = StepProfile(
        numbers=tuple(range(len(total))),
        step_ns=total if wall is None else np.array(wall, np.int64),
        busy_ns=total if on_gpu else None,
        parts=columns,
        waiting_frac=waiting or {},
        kernels={},
        counters={name: np.array(v, np.int64) for name, v in (counters or {}).items()},
        annotated=True,
    )
    said = {"file": "t.json", "rank": None, "devices": (), "world_size": None} | identity
    return Profiled(profile=profile, **said)


TABLES, LAYERS = ("embedding", "forward"), ("top_mlp", "forward")
BASE = [10_000, 10_010, 10_020, 10_030, 10_040, 10_050]


def scaled(by):
    return [round(v * by) for v in BASE]


def status(found, part):
    return next(r.status for r in found.rows if (r.component, r.phase) == part)


def both(by, **more):
    return compare(
        [steps_of({TABLES: BASE, LAYERS: BASE}, **more)], [steps_of({TABLES: scaled(by), LAYERS: BASE}, **more)]
    )


@pytest.mark.parametrize(
    ("by", "expected", "code"),
    [
        (1.0, "no change", Exit.OK),
        (1.007, "no change", Exit.OK),
        (1.03, "regression", Exit.REGRESSION),
        (0.97, "improvement", Exit.OK),
    ],
)
def test_a_part_that_changed(by, expected, code):
    found = both(by)
    assert status(found, TABLES) == expected
    assert status(found, LAYERS) == "no change"
    assert found.exit == code


def test_swapping_the_sides_flips_the_sign():
    one, other = [steps_of({TABLES: BASE})], [steps_of({TABLES: scaled(1.05)})]
    there, back = compare(one, other).rows[0], compare(other, one).rows[0]
    assert (there.status, back.status) == ("regression", "improvement")
    assert (1 + there.change_frac) * (1 + back.change_frac) == pytest.approx(1)


def test_waiting_needs_more_and_host_time_of_one_process_is_never_judged():
    waiting = {TABLES: 1.0, LAYERS: 0.0}
    assert status(both(1.1, waiting=waiting), TABLES) == "no change"
    assert status(both(1.2, waiting=waiting), TABLES) == "regression"
    found = both(5.0, on_gpu=False)
    assert (status(found, TABLES), found.exit) == ("undecided", Exit.OK)
    assert found.rows[0].low_frac > 1
    assert "gate decides" in found.reasons[0]


WALL, IDLE = ("step (wall)", ""), ("idle", "")


def waited(*host_ns):
    """Steps of equal kernels that take this much longer on the host, one after the other."""
    return [steps_of({TABLES: BASE[: len(host_ns)]}, wall=[v + extra for v, extra in zip(BASE, host_ns, strict=False)])]


@pytest.mark.parametrize(
    ("extra_ns", "expected", "code"),
    [
        (0, "no change", Exit.OK),
        (50, "no change", Exit.OK),
        (1_500, "undecided", Exit.OK),
        (5_000, "regression", Exit.REGRESSION),
    ],
)
def test_a_step_that_the_host_makes_longer_while_the_kernels_stay_as_they_were(extra_ns, expected, code):
    found = compare(waited(*[1_000] * 6), waited(*[1_000 + extra_ns] * 6))
    assert {status(found, part) for part in (TABLES, ("all", ""))} == {"no change"}
    assert (status(found, WALL), found.status, found.exit) == (expected, expected, code)
    rows = {(r.component, r.phase): r for r in found.rows}
    assert rows[IDLE].status == "not judged"
    assert (rows[IDLE].baseline_us, rows[IDLE].candidate_us) == (1.0, 1.0 + extra_ns / 1000)
    assert rows[WALL].low_frac <= rows[WALL].change_frac <= rows[WALL].high_frac
    said = comparison_line(found)
    assert ("step (wall)" in said) == (expected != "no change")
    assert {row[0] for row in comparison_tables(found)[0].rows} >= {"step (wall)", "idle"}


def test_a_shorter_step_is_an_improvement_and_few_steps_are_undecided():
    there = compare(waited(*[6_000] * 6), waited(*[1_000] * 6))
    assert (status(there, WALL), there.status) == ("improvement", "improvement")
    few = compare(waited(*[1_000] * 3), waited(*[6_000] * 3))
    assert (status(few, WALL), few.status, few.exit) == ("undecided", "undecided", Exit.OK)
    assert "too few steps" in next(r.reason for r in few.rows if (r.component, r.phase) == WALL)


def test_a_device_that_works_on_after_its_step_is_not_idle_for_less_than_nothing():
    queued = [steps_of({TABLES: BASE}, wall=[v // 2 for v in BASE])]
    found = compare(queued, queued)
    (idle,) = [r for r in found.rows if r.component == "idle"]
    assert (idle.baseline_us, idle.candidate_us, idle.change_frac) == (0.0, 0.0, None)
    assert found.status == "no change"


def test_without_a_gpu_the_step_is_shown_and_not_judged():
    found = compare([steps_of({TABLES: BASE}, on_gpu=False)], [steps_of({TABLES: scaled(9)}, on_gpu=False)])
    assert (status(found, WALL), found.exit) == ("undecided", Exit.OK)
    assert "idle" not in {r.component for r in found.rows}


def test_scatter_wider_than_what_counts_is_undecided():
    wild = [8_000, 9_000, 10_000, 11_000, 12_000, 13_000]
    found = compare([steps_of({TABLES: wild})], [steps_of({TABLES: wild[::-1]})])
    assert (found.status, found.exit) == ("undecided", Exit.OK)


def counted(values, name="ops"):
    return steps_of({TABLES: (BASE * 2)[: len(values)]}, {name: values})


@pytest.mark.parametrize("name", ["allocated_bytes", "copied_bytes", "allocations", "launches"])
def test_one_step_tells_no_count_from_the_next_step_of_the_same_job(name):
    """A batch of more lookups than the one before is no regression."""
    found = compare([counted([5_000], name)], [counted([5_001], name)])
    assert (found.counters[0].status, found.status, found.exit) == ("undecided", "undecided", Exit.OK)
    assert "one step has no spread" in found.reasons[0]
    assert f"vary from step to step: {name.replace('_', ' ')}" in found.reasons[1]
    same = compare([counted([5_000], name)], [counted([5_000], name)])
    assert same.counters[0].status == "equal"
    assert not any("vary" in reason for reason in same.reasons)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([5, 5], [5, 5, 5], "equal"),
        ([5, 5], [6, 6], "more"),
        ([5, 5], [4, 4], "fewer"),
        ([5, 7], [6, 6], "overlapping"),
        ([5, 5], [6, 7], "undecided"),
        ([5], [6, 6, 6], "undecided"),
        ([7, 8, 9], [4, 5, 6], "undecided"),
        ([50, 51, 52, 53, 54, 55], [60, 61, 62, 63, 64, 65], "more"),
        ([50, 51, 52, 53, 54, 55], [40, 41, 42, 43, 44, 45], "fewer"),
        ([50, 51, 52, 53, 54, 55], [51, 52, 53, 54, 55, 56], "overlapping"),
    ],
)
def test_counts_are_exact_where_they_repeat_and_judged_by_ranks_where_they_vary(one, other, expected):
    found = compare([counted(one)], [counted(other)])
    assert found.counters[0].status == expected
    assert found.exit == (Exit.REGRESSION if expected == "more" else Exit.OK)


def test_counts_that_vary_share_their_level():
    """Four steps a side can show p = 2 / 70: enough for one count at 5 %, not for two."""
    low, high = [1, 2, 3, 4], [6, 7, 8, 9]

    def found(*names):
        sides = [[steps_of({TABLES: BASE[:4]}, dict.fromkeys(names, values))] for values in (low, high)]
        return {c.status for c in compare(*sides).counters}

    assert found("copied_bytes") == {"more"}
    assert found("copied_bytes", "allocated_bytes") == {"undecided"}


def test_a_count_that_some_ranks_lack_is_left_out_and_said():
    """One rank without memory events: the sum would be that of the other ranks."""
    full = [steps_of({TABLES: BASE}, {"ops": [5] * 6, "allocated_bytes": [9] * 6}, rank=n) for n in range(2)]
    some = [full[0], steps_of({TABLES: BASE}, {"ops": [5] * 6}, rank=1)]
    for sides in ((full, some), (some, full), (some, some)):
        found = compare(*sides)
        assert [c.name for c in found.counters] == ["ops"]
        assert (found.status, found.exit) == ("no change", Exit.OK)
        assert found.reasons == ("left out, as not all ranks counted them: allocated bytes",)
    assert [c.name for c in compare(full, full).counters] == ["ops", "allocated_bytes"]


def test_parts_of_one_side_and_small_parts_are_not_judged():
    one = [steps_of({TABLES: BASE, LAYERS: [10] * 6})]
    other = [steps_of({TABLES: BASE, LAYERS: [90] * 6, ("loss", ""): [9000] * 6})]
    found = compare(one, other)
    assert status(found, LAYERS) == "not judged"
    assert status(found, ("loss", "")) == "new"
    assert status(found, ("all", "")) == "regression"
    assert status(compare(other, one), ("loss", "")) == "gone"


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ({"devices": ("A100",)}, {"devices": ("V100",)}, "different hardware: A100 and V100"),
        ({"world_size": 8}, {"world_size": 2}, "different world size: 8 and 2"),
        ({"on_gpu": True}, {"on_gpu": False}, "one side has GPU work"),
    ],
)
def test_what_is_not_comparable(one, other, reason):
    found = compare([steps_of({TABLES: BASE}, **one)], [steps_of({TABLES: scaled(2)}, **other)])
    assert (found.status, found.exit) == ("not comparable", Exit.NOT_COMPARABLE)
    assert reason in found.reasons[0]
    assert {r.status for r in found.rows} == {"not comparable"}
    assert found.rows[0].change_frac == pytest.approx(1.0, rel=0.01)


def test_what_a_trace_does_not_say_is_no_obstacle():
    found = compare([steps_of({TABLES: BASE}, devices=("A100",))], [steps_of({TABLES: BASE})])
    assert found.exit == Exit.OK


def test_ranks_are_means_and_must_be_equally_many():
    ranks = [steps_of({TABLES: BASE}, {"ops": [5] * 6}, rank=n) for n in range(2)]
    slow = [ranks[0], steps_of({TABLES: scaled(1.1)}, {"ops": [5] * 6}, rank=1)]
    found = compare(ranks, slow)
    assert found.rows[0].change_frac == pytest.approx(0.05, abs=1e-3)
    assert found.counters[0].baseline == (10,) * 6
    assert compare(ranks, slow[:1]).status == "not comparable"


def test_windows_of_one_rank_are_not_averaged_as_ranks():
    sides = [[steps_of({TABLES: BASE}, rank=0, file=f"{side}{n}.json") for n in range(2)] for side in ("old", "new")]
    found = compare(*sides)
    assert (found.status, found.exit) == ("not comparable", Exit.NOT_COMPARABLE)
    assert [r.partition(":")[0] for r in found.reasons] == [
        "2 traces are of rank 0 (old0.json, old1.json)",
        "2 traces are of rank 0 (new0.json, new1.json)",
    ]


# Real traces


def real(name):
    paths = sorted((TRACES / name).glob("*.json.gz"))
    if not paths:
        pytest.skip(f"no real traces in {TRACES}")
    return paths[0]


def profile_of(path):
    return analyse(read_trace(path), "all", Lens(rules=load_rules())).steps


def test_two_windows_of_one_job_show_no_change():
    first, second = profile_of(real("tb_resnet50_nw0_runA")), profile_of(real("tb_resnet50_nw0_runB"))
    for one, other in ((first, second), (second, first)):
        found = compare([one], [other])
        assert not {"regression", "improvement"} & {r.status for r in found.rows}
        assert {c.status for c in found.counters} == {"equal"}
        assert found.exit == Exit.OK


def slowed(path, kernel, by, target):
    """The same trace with one kernel family longer, and what the device does later shifted by as much."""
    trace = json.loads(gzip.decompress(path.read_bytes()))
    gpu = [
        e
        for e in trace["traceEvents"]
        if str(e.get("cat", "")).lower() in ("kernel", "gpu_memcpy", "memcpy", "gpu_memset")
    ]
    later = 0.0
    for event in sorted(gpu, key=lambda e: float(e["ts"])):
        event["ts"] = float(event["ts"]) + later
        if re.search(kernel, event["name"]):
            grown = float(event["dur"]) * (by - 1)
            event["dur"] = float(event["dur"]) + grown
            later += grown
    target.write_bytes(gzip.compress(json.dumps(trace).encode(), 1))
    return target


@pytest.mark.parametrize(
    ("name", "kernel", "part"),
    [
        ("recsys_diff_control_A100", "split_embedding_codegen_forward", ("embedding", "forward")),
        ("tb_resnet50_nw0_runA", "multi_tensor|dgrad_engine", ("other", "backward")),
    ],
)
def test_one_kernel_family_five_percent_slower_is_found(tmp_path, name, kernel, part):
    path = real(name)
    found = compare([profile_of(path)], [profile_of(slowed(path, kernel, 1.05, tmp_path / "slow.json.gz"))])
    assert found.exit == Exit.REGRESSION
    assert {(r.component, r.phase) for r in found.rows if r.status == "regression"} >= {part}
    assert {(r.component, r.phase) for r in found.rows if r.status == "regression"} <= {part, ("all", "")}
    assert re.search(kernel, found.kernels[0].name)


def test_other_hardware_and_world_size_are_shown_and_not_judged():
    found = compare([profile_of(real("recsys_diff_control_A100"))], [profile_of(real("recsys_diff_test_V100"))])
    assert found.exit == Exit.NOT_COMPARABLE
    assert [r.split(":")[0] for r in found.reasons] == ["different hardware", "different world size"]
    assert len(found.rows) > 10
