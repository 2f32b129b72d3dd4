"""Index laws, lengths, batches and table filling."""

import numpy as np
import pytest
import torch
from scipy import stats

from workloads import indices
from workloads.batch import achieved, expected_touch, make_batch, touch
from workloads.spec import ModelSpec, SpecError, TableSpec
from workloads.tables import BLOCK, fill_table


def one_table(**fields):
    defaults = {"name": "t0", "num_rows": 1000, "dim": 4, "pooling_factor": 8}
    return ModelSpec(name="m", variant="embedding", tables=(TableSpec(**(defaults | fields)),))


def draw(table, n, seed=7):
    out = np.empty(n, np.int64)
    for block, start in enumerate(range(0, n, indices.BLOCK)):
        indices.fill_indices(table, (seed, 0, 0, 1), block, out[start : start + indices.BLOCK])
    return out


@pytest.mark.parametrize("law", indices.names())
@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.0, 1.05, 2.0])
def test_drawn_indices_follow_the_exact_law(law, exponent):
    table = TableSpec(name="t", num_rows=5000, dim=4, indices=law, exponent=exponent)
    rows = draw(table, 1_000_000)
    ranks = np.arange(table.num_rows)
    if indices.LAWS[law].scattered:
        indices.scatter(ranks, table.num_rows, (7, 0, 0, 1))
    expected = indices.law_probabilities(table) * rows.size
    counts = np.bincount(rows, minlength=table.num_rows)[ranks]
    frequent = expected >= 10
    observed = np.append(counts[frequent], counts[~frequent].sum())
    asked = np.append(expected[frequent], expected[~frequent].sum())
    keep = asked > 0
    assert stats.chisquare(observed[keep], asked[keep] * rows.size / asked[keep].sum()).pvalue > 0.001


@pytest.mark.parametrize("law", indices.names())
def test_probabilities_sum_to_one_and_fall(law):
    p = indices.law_probabilities(TableSpec(name="t", num_rows=777, dim=4, indices=law, exponent=1.0))
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
    table = TableSpec(name="t", num_rows=num_rows, dim=4, indices=law, exponent=exponent)
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
