"""Benchmarks of the ranker, one per way of using the fixture."""

import pytest
import ranker
import torch

from workloads.work import StageWork, Work

WORK = Work(
    samples=ranker.BATCH,
    lookups=ranker.BATCH * ranker.POOLING,
    row_bytes=4 * ranker.DIM,
    stages={
        "top_mlp": StageWork(
            flops=2 * ranker.BATCH * ranker.DIM,
            bytes_compulsory=ranker.BATCH * ranker.POOLING * (8 + 4 * ranker.DIM),
            working_set_bytes=4 * ranker.ROWS * ranker.DIM,
        )
    },
)


@pytest.mark.dlrm_bench(tolerance=0.05, metric="min", budget="10s")
def test_inference(dlrm_benchmark):
    """A callable of one's own, its inputs in rotation and its work declared."""
    model = ranker.model()

    def step(indices):
        with torch.no_grad():
            return model(indices)

    dlrm_benchmark(step, inputs=[ranker.batch(seed) for seed in range(4)], work=WORK)


def test_published_model(dlrm_benchmark):
    """A preset with axes; its result is checked before it is timed."""
    dlrm_benchmark("tiny", batch_size=16, num_threads=1)


def test_plain(benchmark):
    """pytest-benchmark's own fixture beside ours."""
    benchmark(sum, range(1000))
