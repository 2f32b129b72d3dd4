"""Sections of a report: present only where the run has what they show, and what they say."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from bench import sections
from bench.plots import style
from bench.records import Case, Measurement, QualityTrial, RateTry, Record
from bench.reporting import report
from bench.run import Run
from bench.running.case_inputs import residency
from bench.sections import Section, plots
from bench.sections.paper import is_paper
from bench.sweep_spec import make_case
from tests import sample_records, sample_structure, sample_trials
from workloads import models
from workloads.batch import expected_touch

STRUCTURE = sample_structure.records()
TRIALS = sample_trials.trials(sample_trials.PLANTED, sample_trials.CONTROL)
HOSTILE = "<script>alert(1)</script>|`x`"


def run(records: Sequence[Record], trials: Sequence[QualityTrial] = ()) -> Run:
    return Run(sample_records.manifest(list(records)), tuple(records), tuple(trials))


def measured(preset: str, step_s: float, settings: dict[str, object], **parts: object) -> Record:
    """An ok record of a preset with six equal repeats."""
    made: Case = make_case(preset, None, settings)  # type: ignore[arg-type]
    assert made.model is not None
    base = sample_records.record(sample_records.scaling_cases()[0])
    found: Measurement = msgspec.structs.replace(base.measurement, times_s=(step_s,) * 6)
    return msgspec.structs.replace(
        base,
        key=made.key(),
        case=made,
        measurement=found,
        work=models.count_work(made.model, made.batch_size, made.phase, expected_touch(made.model, made.batch_size)),
        **parts,
    )


def paper() -> list[Record]:
    return [
        measured("paper", 0.128, {"backend": "tbe"}),
        measured("paper", 0.512, {"backend": "tbe", "phase": "train_step"}),
        measured("paper", 0.031, {"backend": "tbe", "pooling_factor": 50, "lengths": "uniform"}),
        measured("paper", 0.010, {"backend": "tbe", "pooling_factor": 20}),
        measured("paper", 0.010, {"backend": "tbe", "num_rows": 1000}),
    ]


def precision() -> list[Record]:
    kinds = {"float32": (0.004, None), "float16": (0.003, 2e-4), "int8": (0.002, 0.003), "int4": (0.0025, 0.05)}
    rows = [
        measured("tbe_default", s, {"backend": "tbe_int", "row_type": kind}, rounding_error=error)
        for kind, (s, error) in kinds.items()
    ]
    return rows + [measured("paper", s, {"dtype": d}) for d, s in (("float32", 0.1), ("bfloat16", 0.2))]


def threads() -> list[Record]:
    found = []
    for asked, really, seconds in ((1, 1, 0.008), (2, 2, 0.005), (0, 2, 0.005), (4, 4, 0.006)):
        one = measured("tbe_default", seconds, {"num_threads": asked})
        settings = sample_settings(really)
        found.append(msgspec.structs.replace(one, settings=settings))
    return found


def settings() -> list[Record]:
    """glibc's default faults and is slower in every process, lower precision is level, int32 helps in one process."""
    times_s = {
        ("allocator", "pinned"): (0.0100, 0.0101, 0.0100),
        ("allocator", "default"): (0.0160, 0.0150, 0.0170),
        ("matmul_precision", "medium"): (0.0100, 0.0101, 0.0100),
        ("index_dtype", "int32"): (0.0090, 0.0103, 0.0100),
    }
    found = []
    for (axis, value), by_seed in times_s.items():
        for seed, seconds in enumerate(by_seed):
            one = measured("paper", seconds, {axis: value, "seed": seed})
            faulting = {"minor_faults": 400 * 30 * 5, "user_s": 0.6, "system_s": 0.4} if value == "default" else {}
            assert one.measurement is not None
            measurement = msgspec.structs.replace(one.measurement, **faulting)
            found.append(msgspec.structs.replace(one, measurement=measurement))
    return found


def pages(seeds: Sequence[int]) -> list[Record]:
    """Two dims, both a fifth slower on 4 KiB pages; processes of one case 2 % apart."""
    return [
        measured(
            "paper",
            1e-4 * dim * (1 if huge else 1.2) * (1 + 0.01 * seed),
            {"dim": dim, "huge_pages": huge, "seed": seed},
        )
        for dim in (16, 64)
        for huge in (True, False)
        for seed in seeds
    ]


def caches() -> list[Record]:
    """Lookups in one table: ten times as fast from the cache, of 32 MiB, as from memory; cold never fast."""
    found = []
    for rows in (1024, 16384, 65536, 1048576, 4194304):
        for mode in ("hot", "rotated", "cold"):
            fast = mode != "cold" and (rows < 2**17 or mode == "hot")
            settings = {"num_tables": 1, "dim": 64, "num_rows": rows, "cache_mode": mode}
            touched = min(rows, 8192) * 256 if mode == "hot" else rows * 256
            kind = residency(touched, 32 * 2**20, cold=mode == "cold")
            one = measured("tbe_default", 0.001 if fast else 0.01, settings)
            inputs = msgspec.structs.replace(one.inputs, rotation_unique_bytes=touched, residency=kind)
            found.append(msgspec.structs.replace(one, inputs=inputs))
    return found


def sample_settings(num_threads: int) -> object:
    from bench.records import Settings

    return Settings(
        num_threads=num_threads,
        interop_threads=1,
        affinity=(0, 1),
        allocator_env={},
        transparent_huge_pages="",
        anon_huge_bytes=0,
        matmul_precision="highest",
        tf32=False,
        flush_denormal=False,
        inference_mode=False,
        grad_mode=False,
    )


def embedding() -> list[Record]:
    return [
        measured("tbe_default", s * b / 128, {"backend": backend, "batch_size": b})
        for backend, s in (("bag", 0.004), ("tbe", 0.002))
        for b in (128, 512)
    ]


def zoo() -> list[Record]:
    big = make_case("mlperf_dlrm_v2", None, {})
    skipped = msgspec.structs.replace(sample_records.ended_badly()[0], case=big, key=big.key())
    small = {"rows_scale": 0.01}
    return [measured("tiny", 1e-4, {}), measured("kaggle", 2e-3, {}), measured("paper", 0.1, small), skipped]


RUNS = {
    "claims": run(STRUCTURE),
    "structure": run(STRUCTURE),
    "quality": run([], TRIALS),
    "paper": run(paper()),
    "precision": run(precision()),
    "settings": run(settings()),
    "caches": run(caches()),
    "threads": run(threads()),
    "effects": run(embedding()),
    "zoo": run(zoo()),
}
PLOT_RUNS = {
    "features": RUNS["structure"],
    "fm_forms": RUNS["structure"],
    "frontier": RUNS["quality"],
    "row_types": RUNS["precision"],
    "speedup": RUNS["threads"],
    "settings_worth": RUNS["settings"],
    "cache_curve": RUNS["caches"],
    "effects": RUNS["effects"],
}


def made(name: str, of: Run | None = None) -> Section:
    found = sections.load(name).section(of or RUNS[name])
    assert found is not None
    return found


def cells(section: Section, table: int = 0) -> list[list[str]]:
    return [[c.text for c in row] for row in section.tables[table].rows]


@pytest.mark.parametrize("name", sections.names())
def test_every_section_is_whole_and_absent_without_its_data(name: str) -> None:
    found = made(name)
    assert found.name == name
    assert found.title
    assert found.notes
    for table in found.tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert set(found.plots) <= set(plots.names())
    assert sections.load(name).section(run([])) is None
    assert sections.load(name).section(run(sample_records.ended_badly())) is None


def test_a_plain_sweep_has_none_of_them() -> None:
    assert sections.made(run(sample_records.records())) == []


@pytest.mark.parametrize("name", plots.names())
def test_every_plot_of_a_run_draws_and_is_reproducible(name: str) -> None:
    plot, of = plots.load(name), PLOT_RUNS[name]
    assert plot.TITLE
    assert "measured" in plot.CAPTION.lower()
    assert len(plot.alt(of)) > 30
    texts = []
    for theme, width in (("dark", "narrow"), ("dark", "narrow"), ("light", "wide")):
        with style.using(theme, width):  # type: ignore[arg-type]
            figure = plot.draw(of)
            assert figure is not None
            texts.append(style.to_svg(figure))
    assert texts[0] == texts[1] != texts[2]
    assert plot.draw(run(sample_records.ended_badly())) is None


def test_unknown_names_are_answered_with_the_known() -> None:
    with pytest.raises(KeyError, match="claims"):
        sections.load("nothing")
    with pytest.raises(KeyError, match="frontier"):
        plots.load("nothing")


def test_claims_stand_first_with_verdict_and_rule() -> None:
    found = sections.made(run(STRUCTURE, TRIALS))
    assert [s.name for s in found] == ["claims", "structure", "quality"]
    verdicts = [row[1] for row in cells(found[0])]
    assert set(verdicts) <= {"supported", "depends", "not supported", "not measured"}
    assert found[0].text[0].startswith("Of 9 claims: ")
    assert all(row[2].note for row in found[0].tables[0].rows)


def test_exponents_and_both_forms() -> None:
    found = made("structure")
    row = {r[0]: r for r in cells(found)}
    assert row["poly2, block"][1:3] == ["32–256", "2.01"]
    assert row["fm, pairwise"][2] == "–"
    assert row["fm, pairwise"][3] == "1.00"
    forms = cells(found, 1)
    assert [r[0] for r in forms] == ["4", "8", "16", "32", "64", "128", "256"]
    assert forms[-1][1:3] == ["2.1M", "12.3k"]


def test_quality_tells_gap_seeds_and_frontier() -> None:
    found = made("quality")
    features = len(TRIALS[0].model.tables)
    assert [t.title for t in found.tables] == [f"{log} log, {features} features" for log in ("Planted", "Control")]
    best = cells(found)[0]
    assert best[0] == "dlrm at 80 kFLOP"
    assert best[1] == "3"
    assert "F" in best[-1]
    failed = msgspec.structs.replace(TRIALS[0], outcome=sample_records.ended_badly()[1].outcome, curve=())
    assert "1 of" in made("quality", run([], [*TRIALS[1:], failed])).text[0]


def test_quality_tells_rates_at_an_edge_of_the_grid() -> None:
    rates = tuple(RateTry(learning_rate=rate, log_loss=0.5, train_s=1.0) for rate in (0.01, 0.02, 0.04))
    chosen = [
        msgspec.structs.replace(t, rates=rates, learning_rate=0.04 if t.model.variant == "fm" else 0.02) for t in TRIALS
    ]
    fm = sum(t.model.variant == "fm" for t in TRIALS)
    (text,) = made("quality", run([], chosen)).text
    assert text.startswith(f"In {fm} of {len(TRIALS)} trials validation chose the least or the largest learning rate")
    assert text.endswith(f"(of 0.01, 0.02, 0.04), so that a better one may lie beyond: fm {fm} of {fm}.")
    assert made("quality").text == ()


def test_the_paper_is_only_what_the_paper_states() -> None:
    rows = cells(made("paper"))
    assert [r[4] for r in rows] == ["31 s", "128 s", "512 s"]
    assert [r[0] for r in rows] == ["up to 100", "100", "100"]
    assert rows[1][-2:] == ["0.50×", "2.06×"]
    assert "factor of 16.5" in made("paper").text[0]


OTHER_THAN_THE_PAPER: list[dict[str, object]] = [
    {"variant": "dlrm_cat"},
    {"interaction": "cat"},
    {"interaction_self": True},
    {"row_type": "int8", "backend": "tbe_int"},
    {"dtype": "bfloat16"},
    {"pooling": "mean"},
    {"weighted": True},
    {"indices": "zipf"},
    {"execution": "compile"},
    {"cache_mode": "hot"},
]


@pytest.mark.parametrize("settings", OTHER_THAN_THE_PAPER, ids=lambda settings: next(iter(settings)))
def test_what_the_paper_did_not_run_is_not_the_paper(settings: dict[str, object]) -> None:
    assert is_paper(make_case("paper", None, {}))
    assert not is_paper(make_case("paper", None, settings))  # type: ignore[arg-type]


def test_row_types_come_with_their_error_against_float32() -> None:
    found = made("precision")
    assert [(r[0], r[4]) for r in cells(found)] == [
        ("float32", "0"), ("float16", "0.02 %"), ("int8", "0.3 %"), ("int4", "5 %"),
    ]  # fmt: skip
    assert [r[0] for r in cells(found, 1)] == ["float32", "bfloat16"]


def test_without_float32_nothing_is_held_against_it() -> None:
    """Whatever else is first in its group is not float32."""
    every = precision()
    lower = [r for r in every if r.case.model and r.case.model.tables[0].row_type in ("int8", "int4")]
    dense = [measured("paper", s, {"dtype": d}) for d, s in (("bfloat16", 0.2), ("float16", 0.3))]
    found = made("precision", run([*lower, *dense]))
    assert [(r[0], r[3]) for r in cells(found)] == [("int8", "–"), ("int4", "–")]
    assert [(r[0], r[2]) for r in cells(found, 1)] == [("bfloat16", "–"), ("float16", "–")]
    whole = made("precision")
    assert (cells(whole)[0][3], cells(whole, 1)[0][2]) == ("1", "1")


def test_threads_are_those_in_force() -> None:
    rows = cells(made("threads"))
    assert [r[1] for r in rows] == ["1", "2", "4"]
    assert rows[1][3].startswith("1.60×")
    assert rows[1][4] == "80 %"


def test_effects_compare_cases_that_differ_in_one_axis() -> None:
    rows = {(r[1], r[2]): r[3:] for r in cells(made("effects"))}
    assert rows["bag", "tbe"] == ["2.00×", "2.00×", "2.00×", "2"]
    assert rows["B 128", "B 512"] == ["1.00×", "1.00×", "1.00×", "2"]


def test_scaled_and_skipped_models_say_so() -> None:
    found = made("zoo")
    rows = {row[0].text: row for row in found.tables[0].rows}
    assert "rows ×0.01 of the published" in rows["paper"][0].note
    assert rows["mlperf_dlrm_v2"][-1].text == "skipped"
    assert rows["mlperf_dlrm_v2"][-1].note
    page = report.build_report(sample_records.manifest(zoo()), zoo(), sample_records.machine())
    assert any("all rows ×0.01" in row.label for row in page.rows)


def test_one_scaled_model_is_named_so_in_title_and_label() -> None:
    few = [measured("paper", 0.1, {"rows_scale": 0.01})]
    page = report.build_report(sample_records.manifest(few), few, sample_records.machine())
    assert page.title.startswith("paper (rows ×0.01) on")
    assert page.rows[0].label == "all rows ×0.01"


def test_sections_are_text_in_html_and_markdown() -> None:
    model = msgspec.structs.replace(TRIALS[0].model, variant=HOSTILE)
    trials = [msgspec.structs.replace(TRIALS[0], model=model), *TRIALS[9:]]
    manifest = sample_records.manifest(STRUCTURE)
    found = report.build_report(manifest, STRUCTURE, sample_records.machine(), trials=trials)
    page = report.render_html(found, report.draw_section_pictures(run(STRUCTURE, trials), found.sections))
    assert "<script>alert" not in page
    assert page.index('id="section-claims"') < page.index('id="section-structure"') < page.index('id="plot-features"')
    assert page.index('id="plot-frontier"') < page.index('id="machine"')
    assert page.count('id="plot-frontier"') == 1
    text = report.render_markdown(found)
    assert "## The claims" in text
    assert "| poly2, block" in text
    assert "<script>" not in text


def test_settings_are_held_beside_the_default_process_by_process() -> None:
    found = made("settings")
    rows = {row[0].text: row for row in found.tables[0].rows}
    assert rows["allocator: default"][3].text == "0.62×"
    assert rows["allocator: pinned"][0].note == "default"
    assert rows["allocator: default"][7].text == "40 %"
    assert rows["allocator: default"][8].text == "13 %"
    assert found.text[0].startswith("allocator default is 0.62× as fast as pinned")
    assert "page faults a step" in found.text[0]
    assert "int32" in found.text[-1]
    assert "medium" in found.text[-1]
    assert len(found.text) == 2


def test_settings_are_held_beside_the_default_shape_by_shape() -> None:
    found = made("settings", run(pages((0, 1, 2))))
    assert [(r[0], r[1], r[3], r[-1]) for r in cells(found)] == [
        ("pages: huge", "paper · bag · forward · dim 16", "1", "2.0 %"),
        ("pages: 4 KiB", "paper · bag · forward · dim 16", "0.83×", "2.0 %"),
        ("pages: huge", "paper · bag · forward · dim 64", "1", "2.0 %"),
        ("pages: 4 KiB", "paper · bag · forward · dim 64", "0.83×", "2.0 %"),
    ]
    assert [t.partition(" is ")[0] for t in found.text] == ["pages 4 KiB"] * 2
    assert "in 3 of 3 pairs of processes" in found.text[0]


def test_one_process_at_each_value_tells_nothing_apart() -> None:
    found = made("settings", run(pages((0,))))
    assert [r[-1] for r in cells(found)] == ["one process"] * 4
    (text,) = found.text
    assert text.startswith("pages 4 KiB was 0.83× as fast as huge in 2 cases, one process at either value")


def test_the_verdict_says_what_page_faults_cost_and_what_pinning_brought() -> None:
    page = report.build_report(sample_records.manifest(settings()), settings(), sample_records.machine())
    told = next(s.text for s in page.verdict if s.topic == "Page faults")
    assert "40 % of the CPU time is the kernel's" in told
    assert "pin the allocator: 1.60×" in told
    assert "for 2 cases more" in told


def test_no_case_that_fits_the_cache_is_called_dram() -> None:
    found = made("caches")
    assert [t for t in found.text if "Called dram" in t] == []
    (table,) = found.tables
    modes = [column.title for column in table.columns[1:]]
    assert modes == ["hot", "rotated", "cold"]
    verdicts = {(mode, *cell.note.split(", ")) for row in table.rows for mode, cell in zip(modes, row[1:], strict=True)}
    assert ("rotated", "1 GiB", "dram") in verdicts
    assert ("cold", "256 KiB", "mixed") in verdicts
    assert ("hot", "256 KiB", "cache") in verdicts
    assert found.text[0].startswith("rotated: ")
    wrong = [msgspec.structs.replace(r, inputs=msgspec.structs.replace(r.inputs, residency="dram")) for r in caches()]
    assert "Called dram although" in made("caches", run(wrong)).text[-1]
