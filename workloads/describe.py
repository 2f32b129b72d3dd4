"""What a model costs, by arithmetic alone: parameters, work per stage, memory. No torch."""

from __future__ import annotations

from typing import Any

from workloads import inputs, models, presets
from workloads.batch import expected_reuse, expected_touch
from workloads.spec import SHORT_REUSE, ModelSpec, SpecError
from workloads.work import INDEX_BYTES, ROW_ELEMENT_BYTES, StageWork, is_training

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def describe(spec: ModelSpec, batch_size: int) -> dict[str, Any]:
    """Numbers of one forward step with `batch_size` samples.

    Distinct rows are as expected from the index laws, or as counted in the first batch of a file that is replayed.

    Raises SpecError for a spec its variant cannot build.
    """
    presets.check_names(spec)
    spec = inputs.bind(spec, batch_size)
    work = models.count_work(spec, batch_size, "forward", inputs.touches(spec, batch_size))
    memory = memory_needed(spec, batch_size, "forward", "bag", "float32")
    return (
        {
            "name": spec.name,
            "batch_size": batch_size,
            "rows_scale": spec.rows_scale,
            "params": models.count_parameters(spec),
            "table_rows": spec.table_rows,
            "table_bytes": spec.table_bytes,
            "lookups_per_sample": spec.lookups_per_sample,
            "gather_bytes_per_sample": spec.gather_bytes_per_sample,
            "flops_per_sample_forward": work.total("flops") / batch_size,
            "stages": {name: _stage(stage) for name, stage in work.stages.items()},
            "memory_needed_bytes": sum(memory.values()),
            "memory_parts_bytes": memory,
        }
        | _reuse(spec, batch_size)
        | _replayed(spec, batch_size)
    )


def _reuse(spec: ModelSpec, batch_size: int) -> dict[str, Any]:
    """Asked and delivered reuse of tables under `temporal`, and a note where the one is well below the other."""
    found = expected_reuse(spec, batch_size)
    if found is None:
        return {}
    told: dict[str, Any] = {"reuse_asked": found.asked, "reuse_delivered": found.delivered}
    if found.delivered < SHORT_REUSE * found.asked:
        told["reuse_note"] = (
            "lookups repeat none of another batch: a larger batch or a smaller working_set repeats more"
        )
    return told


def _replayed(spec: ModelSpec, batch_size: int) -> dict[str, Any]:
    """File, digest, samples and tables of what is replayed, what says the number of tables, and the share of lookups
    folded in the first batch."""
    if spec.captured is None:
        return {}
    first = inputs.make_inputs(spec, batch_size, 0, 1).batches
    facts = {
        "file": spec.replay,
        "remapped_frac": inputs.rows_remapped_frac(first),
        "tables_from": inputs.tables_of(spec),
    }
    return {"replay": facts | {f: getattr(spec.captured, f) for f in spec.captured.__struct_fields__}}


def _stage(stage: StageWork) -> dict[str, int]:
    fields = ("flops", "flops_useful", "bytes_logical", "bytes_algorithmic", "bytes_compulsory")
    return {field: int(getattr(stage, field)) for field in fields}


def memory_needed(
    spec: ModelSpec, batch_size: int, phase: str, backend: str, dtype: str, *, optimizer: str = "sgd"
) -> dict[str, int]:
    """Bytes that one case needs, by part; one batch of inputs (a rotation holds several).

    `spec` as its backend stores it (placements.as_stored), where rows are padded.
    `reference_check` is what the float64 comparison adds before timing. An estimate from shapes: allocator slack,
    libraries and the interpreter (about 0.5 GiB) come on top.
    Raises SpecError for an unknown dtype or phase, and for a spec its variant cannot build.
    """
    if dtype not in DTYPE_BYTES:
        raise SpecError("dtype", dtype, f"known: {', '.join(DTYPE_BYTES)}")
    training, dense_bytes = is_training(phase), DTYPE_BYTES[dtype]
    # Says what of the spec its variant cannot build, which is to be known before anything is.
    models.count_work(spec, batch_size, phase, expected_touch(spec, batch_size))
    variant = models.load(spec.variant)
    dense = variant.dense_parameters(spec) * dense_bytes
    activations = batch_size * variant.activations_per_sample(spec) * dense_bytes
    return {
        "tables": spec.table_bytes,
        # Quantised tables are made from a float32 copy, one table at a time.
        "table_scratch": max(t.num_rows * t.pooled_bytes for t in spec.tables) if backend == "tbe_int" else 0,
        "optimizer_state": _optimizer_state(spec, optimizer) if training else 0,
        "table_gradients": _table_gradients(spec, batch_size, backend) if training else 0,
        "dense_parameters": dense,
        "dense_gradients": dense if training else 0,
        "activations": activations * (2 if training else 1),
        "batch": _batch_bytes(spec, batch_size),
        "reference_check": _reference_bytes(spec, batch_size, training, activations * 8 // dense_bytes),
    }


HOST_ALWAYS = ("table_scratch", "reference_check")
WITH_TABLES = ("tables", "optimizer_state", "table_gradients")


def device_memory(parts: dict[str, int], placement: str, cache_load_factor: float) -> dict[str, int]:
    """Of what memory_needed gives for a GPU: the parts on the GPU. What is not among them is in host memory.

    `table_cache` is what managed_caching keeps there besides. Row-wise optimizer state stays on the device with
    unified tables, and is counted with them.
    """
    off = {*HOST_ALWAYS, *(WITH_TABLES if placement != "device" else ())}
    found = {name: size for name, size in parts.items() if name not in off}
    if placement == "managed_caching":
        found["table_cache"] = round(cache_load_factor * parts["tables"])
    return found


def _optimizer_state(spec: ModelSpec, optimizer: str) -> int:
    """One fp32 mean square a row for row-wise Adagrad, two moments a weight for Adam."""
    if optimizer == "adam":
        return sum(t.num_rows * t.dim * 8 for t in spec.tables)
    return spec.table_rows * 4 if optimizer == "rowwise_adagrad" else 0


def _table_gradients(spec: ModelSpec, batch_size: int, backend: str) -> int:
    """None where the update is fused into backward, dense ones as large as the tables; sparse ones hold one row and one
    index per lookup, not per distinct row."""
    if backend == "tbe":
        return 0
    if backend == "torchrec":
        return spec.table_bytes
    return round(sum(batch_size * t.pooling_factor * (t.row_bytes + INDEX_BYTES) for t in spec.tables))


def _batch_bytes(spec: ModelSpec, batch_size: int) -> int:
    lookups = batch_size * spec.lookups_per_sample
    weights = sum(batch_size * t.pooling_factor * ROW_ELEMENT_BYTES for t in spec.tables if t.weighted)
    offsets = len(spec.tables) * batch_size + 1
    return round((lookups + offsets) * INDEX_BYTES + weights + batch_size * (spec.num_dense + 1) * 4)


def _reference_bytes(spec: ModelSpec, batch_size: int, training: bool, activations: int) -> int:
    """Double the activations; one table's distinct rows in float64; in training every table's in float32 too."""
    distinct = [touch.unique_rows for touch in expected_touch(spec, batch_size)]
    rows = [u * t.pooled_bytes for t, u in zip(spec.tables, distinct, strict=True)]
    return round(2 * activations + 4 * max(rows) + (sum(rows) if training else 0))
