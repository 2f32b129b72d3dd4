"""Index laws, lengths, batches and table filling."""

import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import torch
from scipy import stats

from tools import input_laws
from workloads import indices, lengths
from workloads.batch import achieved, expected_reuse, expected_touch, make_batch, touch
from workloads.spec import ModelSpec, SpecError, TableSpec
from workloads.tables import BLOCK, fill_table


def one_table(**fields):
    defaults = {"name": "t0", "num_rows": 1000, "dim": 4, "pooling_factor": 8}
    return ModelSpec(name="m", variant="embedding", tables=(TableSpec(**(defaults | fields)),))


def draw(table, n, seed=7):
    return input_laws.draw(table, n, seed)


INDEPENDENT = [law for law in indices.names() if indices.LAWS[law].unique is None]
STEPS = input_laws.STEPS
ASKED = [*input_laws.laws(), ("hot_set, few rows", input_laws.table_of(indices="hot_set", hot_rows=9999))]


@pytest.mark.parametrize(("name", "table"), ASKED, ids=[name for name, _ in ASKED])
def test_drawn_indices_follow_the_exact_law(name, table):
    """`python -m tools.input_laws` prints the p-values. Seeds are fixed, so chance plays no part in a second run."""
    found = [input_laws.p_value(table, draw(table, 1_000_000, seed), seed) for seed in range(20)]
    assert min(found) > 0.001
    # One seed may be lucky; twenty are also spread evenly over 0 to 1.
    assert stats.kstest(found, "uniform").pvalue > 0.001


@pytest.mark.parametrize(("asked", "drawn"), [(1.05, 1.08), (0.0, 0.03), (1.0, 0.97)])
def test_a_law_that_is_a_little_off_is_caught(asked, drawn):
    asked, drawn = (input_laws.table_of(indices="zipf", exponent=a) for a in (asked, drawn))
    assert input_laws.p_value(asked, draw(drawn, 1_000_000, 0), 0) < 1e-6


@pytest.mark.parametrize("law", indices.names())
def test_probabilities_sum_to_one_and_fall(law):
    p = indices.law_probabilities(TableSpec(name="t", num_rows=777, dim=4, indices=law, exponent=1.0, steps=STEPS))
    assert p.sum() == pytest.approx(1.0)
    assert (np.diff(p) <= 1e-15).all()


@pytest.mark.parametrize("num_rows", [1, 2, 3, 10, 999_983, 2**31, 2**40])
def test_the_scatter_is_a_bijection_that_cannot_overflow(num_rows):
    factor, shift = indices.bijection(num_rows, (3, 1))
    assert np.gcd(factor, num_rows) == 1
    assert factor * (num_rows - 1) + shift < 2**63
    ranks = np.arange(min(num_rows, 10_000))
    indices.scatter(ranks, num_rows, (3, 1))
    assert np.unique(ranks).size == ranks.size
    assert ranks.min() >= 0
    assert ranks.max() < num_rows


def test_hot_rows_are_not_neighbours():
    ranks = np.arange(10)
    indices.scatter(ranks, 1_000_000, (0, 0))
    assert np.diff(np.sort(ranks)).min() > 10_000


@pytest.mark.parametrize("law", indices.names())
@pytest.mark.parametrize(("num_rows", "exponent"), [(1, 1.0), (500, 0.5), (50_000, 1.0), (300_000, 1.2)])
def test_expected_unique_agrees_with_what_is_drawn(law, num_rows, exponent):
    table = TableSpec(name="t", num_rows=num_rows, dim=4, indices=law, exponent=exponent, steps=STEPS)
    drawn = np.mean([np.unique(draw(table, 20_000, seed)).size for seed in range(8)])
    assert indices.expected_unique(table, 20_000) == pytest.approx(drawn, rel=0.01)


def test_expected_unique_in_bins_agrees_with_the_exact_sum():
    table = TableSpec(name="t", num_rows=1_000_000, dim=4, indices="zipf", exponent=1.05)
    p = indices.law_probabilities(table)
    exact = -np.expm1(200_000 * np.log1p(-p)).sum()
    assert indices.expected_unique(table, 200_000) == pytest.approx(exact, rel=1e-4)


def test_any_number_of_threads_gives_the_same_batch():
    spec = one_table(indices="zipf", pooling_factor=200, weighted=True)
    one, four = (make_batch(spec, 1000, 5, 3, num_threads=n) for n in (1, 4))
    assert one.indices.size > 3 * indices.BLOCK
    for field in ("dense", "indices", "offsets", "labels", "weights"):
        np.testing.assert_array_equal(getattr(one, field), getattr(four, field))


def test_seed_batch_number_and_table_each_change_the_indices():
    table = TableSpec(name="t", num_rows=1000, dim=4, pooling_factor=8)
    spec = ModelSpec(name="m", variant="embedding", tables=(table, table))
    base = make_batch(spec, 64, 0)
    assert (base.table(0).indices != base.table(1).indices).any()
    assert (base.indices != make_batch(spec, 64, 1).indices).any()
    assert (base.indices != make_batch(spec, 64, 0, 1).indices).any()


def test_a_batch_has_the_shapes_it_promises():
    batch = make_batch(one_table(pooling_factor=3), 5, 0)
    assert batch.indices.shape == (15,)
    np.testing.assert_array_equal(batch.offsets, np.arange(6) * 3)
    assert batch.dense.shape == (5, 0)
    assert set(np.unique(batch.labels)) <= {0.0, 1.0}
    assert (batch.batch_size, batch.num_tables, batch.weights) == (5, 1, None)


@pytest.mark.parametrize("field", ["batch_size", "seed"])
def test_a_bad_batch_size_or_seed_is_named(field):
    with pytest.raises(SpecError, match=f"{field} = -1 is not allowed"):
        make_batch(one_table(), **({"batch_size": 4, "seed": 0} | {field: -1}))


@pytest.mark.parametrize(("field", "near"), [("indices", "zipf"), ("lengths", "fixed")])
def test_an_unknown_law_names_the_nearest(field, near):
    with pytest.raises(SpecError, match=f"did you mean '{near}'"):
        make_batch(one_table(**{field: near + "x"}), 4, 0)


@pytest.mark.parametrize("num_rows", [50, 100_000])
def test_touch_counts_lookups_and_distinct_rows(num_rows):
    spec = one_table(num_rows=num_rows)
    batches = [make_batch(spec, 20, 0, i) for i in range(3)]
    (found,) = touch(spec, batches)
    per_batch = [np.unique(b.indices).size for b in batches]
    assert found.lookups == 160
    assert found.unique_rows == pytest.approx(np.mean(per_batch))
    assert found.rotation_unique_rows == np.unique(np.concatenate([b.indices for b in batches])).size


def test_the_expected_touch_is_near_the_counted_one():
    spec = one_table(num_rows=20_000, indices="zipf")
    batches = [make_batch(spec, 1000, 0, i) for i in range(4)]
    (counted,), (expected,) = touch(spec, batches), expected_touch(spec, 1000, 4)
    assert expected.unique_rows == pytest.approx(counted.unique_rows, rel=0.03)
    assert expected.rotation_unique_rows == pytest.approx(counted.rotation_unique_rows, rel=0.03)


def test_achieved_statistics_of_a_hand_made_case():
    spec = one_table(num_rows=1, pooling_factor=2)
    (found,) = achieved(spec, [make_batch(spec, 10, 0)])
    assert (found.unique_frac, found.length_mean, found.length_p99, found.top1_frac) == (0.05, 2.0, 2.0, 1.0)
    assert found.top1_ranks_frac == 1.0


def test_the_mass_of_the_first_ranks_is_the_laws_however_sparse_the_sample():
    """4,000 lookups of a million rows: the 10,000 rows looked up most are all there are, the first ranks 1 %."""
    spec = one_table(num_rows=1_000_000)
    (sparse,) = achieved(spec, [make_batch(spec, 500, 0)])
    assert sparse.top1_frac == 1.0
    assert sparse.top1_ranks_frac == pytest.approx(0.01, abs=0.005)
    skewed = one_table(num_rows=1000, indices="zipf")
    batches = [make_batch(skewed, 2500, 0, number) for number in range(2)]
    (found,) = achieved(skewed, batches)
    rows = np.concatenate([b.indices for b in batches])
    first = indices.ranks_of(skewed.tables[0], rows, (0, 0)) < 10
    assert found.top1_ranks_frac == pytest.approx(first.mean())
    assert found.top1_ranks_frac == pytest.approx(indices.law_probabilities(skewed.tables[0])[:10].sum(), abs=0.01)


def test_a_skewed_law_puts_more_mass_on_the_top_rows():
    uniform, zipf = (
        achieved(
            one_table(num_rows=10_000, indices=law), [make_batch(one_table(num_rows=10_000, indices=law), 5000, 0)]
        )
        for law in ("uniform", "zipf")
    )
    assert zipf[0].top1_frac > 10 * uniform[0].top1_frac


def test_tables_are_small_normal_numbers_of_both_signs_on_any_thread_count():
    one, three = torch.zeros(BLOCK // 8 + 1, 9), torch.zeros(BLOCK // 8 + 1, 9)
    fill_table(one, 0, 2, num_threads=1)
    fill_table(three, 0, 2, num_threads=3)
    assert torch.equal(one, three)
    assert one.abs().min() >= 1 / 32
    assert one.abs().max() < 1 / 16
    assert abs(float((one > 0).float().mean()) - 0.5) < 0.01
    fill_table(three, 0, 3)
    assert not torch.equal(one, three)


def test_every_independent_law_is_asked_for_above():
    assert {table.indices for _, table in ASKED} == set(INDEPENDENT)


def test_sequential_rows_go_around_and_on_from_batch_to_batch():
    spec = one_table(indices="sequential", num_rows=100, pooling_factor=3)
    rows = np.concatenate([make_batch(spec, 25, 0, number).indices for number in range(3)])
    np.testing.assert_array_equal(rows, np.arange(225) % 100)


@pytest.mark.parametrize(("reuse", "working_set"), [(0.0, 64), (0.5, 64), (0.9, 500)])
def test_temporal_lookups_repeat_the_working_set(reuse, working_set):
    table = TableSpec(name="t", num_rows=10_000_000, dim=4, indices="temporal", reuse=reuse, working_set=working_set)
    rows = draw(table, 300_000)
    last = {}
    near = 0
    for place, row in enumerate(rows.tolist()):
        near += place - last.get(row, -(10**9)) <= working_set
        last[row] = place
    assert near / rows.size == pytest.approx(reuse, abs=0.03)
    assert indices.expected_unique(table, rows.size) == pytest.approx(np.unique(rows).size, rel=0.01)


def test_temporal_lookups_repeat_none_of_another_batch():
    """4,000 lookups a batch, so that the working set is never full: 0.9 * 3,999 / (2 * 65,536) of them repeat."""
    spec = one_table(num_rows=1_000_000, indices="temporal", reuse=0.9, working_set=65_536)
    batches = [make_batch(spec, 500, 0, i) for i in range(8)]
    (counted,), (expected,) = touch(spec, batches), expected_touch(spec, 500, 8)
    assert expected.rotation_unique_rows == pytest.approx(counted.rotation_unique_rows, rel=0.01)
    assert expected.rotation_unique_rows == pytest.approx(32_000 * (1 - 0.9 * 3999 / 131_072), rel=0.02)


def test_the_delivered_reuse_by_hand():
    def reuse(*tables):
        return expected_reuse(ModelSpec(name="m", variant="embedding", tables=tables), 512)

    wide = TableSpec(
        name="t", num_rows=10**6, dim=4, pooling_factor=20, indices="temporal", reuse=0.9, working_set=65_536
    )
    plain = msgspec.structs.replace(wide, indices="uniform")
    assert reuse(plain) is None
    # 10,240 lookups a batch: at place i of them the past is i of the 65,536 that were asked for.
    assert reuse(wide, plain) == (pytest.approx(0.9), pytest.approx(0.9 * 10_239 / 131_072))
    # A working set of 1,024 is full after a tenth of the batch; the other table has a third of the lookups.
    near = msgspec.structs.replace(wide, pooling_factor=10, reuse=0.3, working_set=1024)
    of_near = 0.3 * (5120 - 1024 + 1023 / 2) / 5120
    assert reuse(wide, near) == (
        pytest.approx((2 * 0.9 + 0.3) / 3),
        pytest.approx((2 * 0.9 * 10_239 / 131_072 + of_near) / 3),
    )


def test_a_shift_flattens_the_head():
    flat, plain = (TableSpec(name="t", num_rows=1000, dim=4, indices="zipf", exponent=1.2, shift=q) for q in (50, 0))
    assert indices.law_probabilities(flat)[0] < 0.1 * indices.law_probabilities(plain)[0]
    ratio = np.log(indices.law_probabilities(flat)[-1] / indices.law_probabilities(flat)[500])
    assert ratio == pytest.approx(-1.2 * np.log(1050.5 / 551.5), rel=0.01)


@pytest.mark.parametrize("law", INDEPENDENT)
def test_ranks_are_found_back_and_the_distance_is_small_only_for_the_right_law(law):
    table = TableSpec(name="t", num_rows=5003, dim=4, indices=law, steps=STEPS)
    rows = draw(table, 200_000)
    assert indices.distance(table, rows, (7, 0)) < 1.95 / np.sqrt(rows.size)
    other = TableSpec(name="t", num_rows=5003, dim=4, indices="zipf", exponent=3)
    assert indices.distance(other, rows, (7, 0)) > 0.2


def test_the_distance_is_told_beside_a_result_where_there_is_one():
    for law in indices.names():
        spec = one_table(indices=law, steps=STEPS)
        (found,) = achieved(spec, [make_batch(spec, 500, 3, number) for number in range(2)])
        assert (found.index_ks is None) == (found.top1_ranks_frac is None) == (law not in INDEPENDENT)
        assert found.index_ks is None or found.index_ks < 1.95 / np.sqrt(8000)


def asked_lengths(law, mean, spread):
    """Probability of lengths 0..K-1."""
    k = np.arange(40 * int(mean + 2))
    if law == "poisson":
        return stats.poisson(mean).pmf(k)
    if law == "geometric":
        return stats.geom(1 / (1 + mean), loc=-1).pmf(k)
    if law == "lognormal":
        # Rounded up or down with the right mean: differences of E[max(X - k, 0)].
        scale, s = mean * np.exp(-(spread**2) / 2), spread
        edges = np.concatenate([[1e-12], np.arange(1, k.size + 1)])
        d1 = (np.log(scale / edges) + s * s) / s
        above = mean * stats.norm.cdf(d1) - edges * stats.norm.cdf(d1 - s)
        return np.concatenate([[1 - above[0] + above[1]], np.diff(above, 2)])
    return (k <= 2 * mean) / (2 * mean + 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mean", [1, 2.5, 20])
@pytest.mark.parametrize("law", [name for name in lengths.names() if name != "fixed"])
def test_lengths_follow_their_law_and_deliver_the_mean(law, mean, seed):
    table = TableSpec(name="t", num_rows=10, dim=4, pooling_factor=mean, lengths=law, length_spread=0.8)
    drawn = lengths.draw_lengths(table, (seed,), 200_000)
    assert drawn.mean() == pytest.approx(mean, rel=0.005)
    asked = asked_lengths(law, mean, 0.8)
    counts = np.bincount(np.minimum(drawn, asked.size - 1), minlength=asked.size)
    assert np.abs(np.cumsum(counts) / drawn.size - np.cumsum(asked)).max() < 1.95 / np.sqrt(drawn.size)


@pytest.mark.parametrize("mean", [1.3, 50, 13.6])
@pytest.mark.parametrize("law", [name for name in lengths.names() if name != "fixed"])
def test_the_mean_is_delivered_in_one_batch(law, mean):
    table = TableSpec(name="t", num_rows=10, dim=4, pooling_factor=mean, lengths=law)
    for seed in range(20):
        assert lengths.draw_lengths(table, (seed,), 2048).mean() == pytest.approx(mean, rel=0.005)


def test_single_samples_have_lengths_of_their_own_and_may_be_empty():
    table = TableSpec(name="t", num_rows=10, dim=4, pooling_factor=2, lengths="geometric")
    drawn = np.array([lengths.draw_lengths(table, (seed,), 1)[0] for seed in range(3000)])
    assert drawn.mean() == pytest.approx(2, rel=0.1)
    assert np.mean(drawn == 0) == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize("law", lengths.names())
def test_lengths_leave_the_index_law_unchanged(law):
    spec = one_table(num_rows=5000, indices="zipf", lengths=law, pooling_factor=20)
    for seed in range(3):
        part = make_batch(spec, 50_000, seed).table(0)
        assert input_laws.p_value(spec.tables[0], part.indices, seed) > 0.001
        # Nor does it matter where in its bag a lookup stands.
        firsts = part.indices[part.offsets[:-1][np.diff(part.offsets) > 0]]
        assert input_laws.p_value(spec.tables[0], firsts, seed) > 0.001


@pytest.mark.parametrize("law", lengths.names())
def test_lengths_change_no_lookup_only_where_bags_end(law):
    fixed, other = (one_table(num_rows=5000, lengths=name, pooling_factor=20) for name in ("fixed", law))
    fixed, other = (make_batch(spec, 4096, 3).indices for spec in (fixed, other))
    # The last block may be shorter, and is then drawn shorter.
    same = (min(fixed.size, other.size) // indices.BLOCK) * indices.BLOCK
    assert same > 0
    np.testing.assert_array_equal(fixed[:same], other[:same])


@pytest.mark.parametrize(("mean", "spread"), [(1, 0.8), (2.5, 1.5), (20, 0.3), (13.6, 0)])
@pytest.mark.parametrize("law", [name for name in lengths.names() if name != "fixed"])
def test_the_distance_of_lengths_is_small_only_for_their_own_law(law, mean, spread):
    table = TableSpec(name="t", num_rows=10, dim=4, pooling_factor=mean, lengths=law, length_spread=spread)
    drawn = lengths.draw_lengths(table, (5,), 100_000)
    assert lengths.distance(table, drawn) < 1.95 / np.sqrt(drawn.size)
    assert lengths.distance(table, drawn + 1) > 0.02
    others = [msgspec.structs.replace(table, lengths=n) for n in lengths.names() if n not in ("fixed", law)]
    for other in others:
        assert lengths.distance(other, drawn) > 0.02


def test_lengths_have_no_distance_where_no_law_is_asked():
    assert lengths.distance(TableSpec(name="t", num_rows=10, dim=4), np.ones(5, np.int64)) is None


SCRIPT = """
import hashlib, sys
import torch
from workloads.batch import make_batch
from workloads.spec import ModelSpec, TableSpec
torch.set_num_threads(int(sys.argv[1]))
laws = ("zipf", "temporal", "hot_set", "sequential", "uniform")
tables = tuple(TableSpec(name="t", num_rows=9973, dim=4, pooling_factor=40, indices=law, lengths="lognormal",
               weighted=True) for law in laws)
batch = make_batch(ModelSpec(name="m", variant="mlp", tables=tables, num_dense=5), 4096, 11, 2)
parts = (batch.dense, batch.indices, batch.offsets, batch.labels, batch.weights)
print(hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest())
"""


def test_processes_with_other_numbers_of_threads_make_the_same_batch():
    def digest(threads, affinity):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(threads)],
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
            preexec_fn=lambda: os.sched_setaffinity(0, affinity),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    cpus = os.sched_getaffinity(0)
    found = {digest(threads, some) for threads, some in ((1, cpus), (7, {min(cpus)}))}
    assert len(found) == 1
    assert len(found.pop()) == 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shift": -1}, "shift = -1 .*from 0"),
        ({"hot_share": 1.5}, "hot_share = 1.5 .*from 0 to 1"),
        ({"hot_rows": 0}, "hot_rows = 0"),
        ({"reuse": 1.0}, "reuse = 1.0 .*0.999"),
        ({"working_set": 100_000}, "working_set = 100000 .*65536"),
        ({"length_spread": float("nan")}, "length_spread = nan"),
        ({"indices": "steps"}, r"steps = \[\] .*summing to 1"),
        ({"steps": ((0.5, 0.5), (0.4, 0.5))}, "summing to 1"),
        ({"exponent": 9}, "exponent = 9"),
    ],
)
def test_a_parameter_out_of_its_domain_is_named(fields, message):
    with pytest.raises(SpecError, match=message):
        one_table(**fields)
