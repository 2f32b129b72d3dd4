"""The report's model and texts; the pictures and the page in a browser are tested in tests/e2e."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import plots
from bench.plots import style
from bench.records import Channel, Outcome, Record, Replayed, StageTime
from bench.reporting import cases as report_cases
from bench.reporting import format as report_format
from bench.reporting import report
from bench.reporting.labels import fit, fit_apart, held, labels, slices, telling, varying
from bench.reporting.verdict import verdict
from tests import sample_records

MACHINE = sample_records.machine()
RECORDS = sample_records.records()
HOSTILE = '<script>alert(1)</script>|`x`"\n# head'


def hostile() -> list[Record]:
    """Sample records with markup wherever text can come from a file."""
    first = RECORDS[0]
    model = msgspec.structs.replace(first.case.model, name=HOSTILE)
    case = msgspec.structs.replace(first.case, model=model)
    reason = Outcome(status="failed", kind="error", reason=HOSTILE)
    return [msgspec.structs.replace(first, case=case), msgspec.structs.replace(RECORDS[-1], outcome=reason)]


def built(records: list[Record] = RECORDS, **changes: Any) -> report.Report:
    machine = changes.pop("machine", MACHINE)
    manifest = sample_records.manifest(records, machine=machine, **changes)
    return report.build_report(manifest, records, machine, run_dir="results/local/a b")


def test_title_facts_and_commands() -> None:
    found = built()
    assert found.title == "paper on AMD EPYC 7B13"
    assert found.subtitle == "quick · 2026-01-05 10:00 UTC · 28 measured, 1 skipped, 1 failed"
    assert len(found.rows) == 28
    assert [fact.label for fact in found.facts][:2] == ["Most samples/s, forward", "Most samples/s, train"]
    assert found.commands[0][1] == "dlrm-bench sweep quick"
    assert found.commands[1][1] == "dlrm-bench sweep --resume 'results/local/a b'"


def test_the_title_names_the_gpu_that_cases_ran_on() -> None:
    machine = sample_records.machine(gpus=(sample_records.gpu(0, "H100"), sample_records.gpu(1, "A100")))

    def title(*devices: str) -> str:
        chosen = [
            msgspec.structs.replace(r, case=msgspec.structs.replace(r.case, device=device))
            for r, device in zip(RECORDS, devices, strict=False)
        ]
        return report._title(sample_records.manifest(chosen), chosen, machine)

    assert title("cuda:1", "cuda:1") == "paper on A100"
    assert title("cpu", "cuda", "cuda:1") == "paper on H100 and A100"
    assert title("cpu") == "paper on AMD EPYC 7B13"


def test_whether_memory_traffic_was_counted_is_said_of_the_run() -> None:
    assert dict(built().conventions)["Modelled"].endswith("No counter of memory traffic was read in this run.")
    times = RECORDS[0].telemetry[0].times_s
    counted = Channel(name="memory_read_bytes", source="perf", times_s=times, values=tuple(1e9 * t for t in times))
    found = [msgspec.structs.replace(RECORDS[0], telemetry=(counted,)), *RECORDS[1:]]
    assert "counters were read in 1 of 28 cases" in dict(built(found).conventions)["Modelled"]


def test_ended_badly_is_told_with_its_reason() -> None:
    skipped, failed = built().ended
    assert "torchrec is not installed" in skipped.reason
    assert (failed.status, failed.kind) == ("failed", "out of memory (SIGKILL)")


def test_verdict_names_stage_backend_scaling_and_training() -> None:
    found = {s.topic: s.text for s in reversed(verdict(RECORDS, MACHINE))}
    assert "the embedding is the largest stage" in found["Stages"]
    assert "gather roof" in found["Stages"]
    assert re.search(
        r"tbe is the fastest backend, 1\.\d\d× \[1\.\d\d, 1\.\d\d\] as fast as fused_bag", found["Backends"]
    )
    assert found["Scaling"].startswith("From batch size 128 to 2048")
    assert "(bag)" in found["Training"]


def test_verdict_does_not_rank_what_noise_hides() -> None:
    pair = [r for r in RECORDS if r.case.backend in ("bag", "fused_bag") and r.case.batch_size == 2048]
    pair = [r for r in pair if r.case.phase == "forward"]
    same = [msgspec.structs.replace(r, measurement=pair[0].measurement, trace=None) for r in pair]
    texts = [s.text for s in verdict(same, MACHINE) if s.topic == "Backends"]
    assert len(texts) == 1
    assert "is not told apart from" in texts[0]


def test_verdict_blames_overhead_where_every_stage_is_slow() -> None:
    slow = RECORDS[0]
    assert slow.measurement is not None
    times = tuple(10 * t for t in slow.measurement.times_s)
    slow = msgspec.structs.replace(slow, measurement=msgspec.structs.replace(slow.measurement, times_s=times))
    assert "Overhead" in {s.topic for s in verdict([slow], MACHINE)}


@pytest.mark.parametrize("records", [[], RECORDS[-2:]])
def test_a_run_without_measurements_still_has_a_report(records: list[Record]) -> None:
    found = built(records)
    assert found.verdict[0].topic == "Nothing measured"
    assert report.draw_pictures(records, MACHINE) == []
    assert "Nothing measured" in report.render_html(found)
    assert "Nothing measured" in report.render_markdown(found)


def test_without_ceilings_and_traces_the_report_says_what_is_missing() -> None:
    bare = [msgspec.structs.replace(r, trace=None, telemetry=(), inputs=None) for r in RECORDS[:6]]
    machine = sample_records.machine(ceilings={}, trust=())
    page = report.render_html(built(bare, machine=machine), report.draw_pictures(bare, machine))
    assert "No ceilings were measured" in page
    assert 'id="plot-scaling_batch"' in page
    assert 'id="plot-stages"' not in page


def test_markup_in_names_is_text_in_html() -> None:
    page = report.render_html(built(hostile()), report.draw_pictures(hostile(), MACHINE))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_markup_in_names_is_text_in_markdown() -> None:
    text = report.render_markdown(built(hostile()))
    assert r"\<script\>alert(1)\</script\>\|\`x\`" in text
    assert "\n# head" not in text


def test_the_page_forbids_everything_external() -> None:
    page = report.render_html(built())
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"(?:src|href|srcset)=\"(?!data:|traces/)", page)
    assert " style=" not in page
    assert "innerHTML" not in page


def test_markdown_tables_are_whole() -> None:
    lines = report.render_markdown(built()).splitlines()
    cases = [line for line in lines if line.startswith("| rows")]
    assert len(cases) == 28 + 2
    assert {line.count(" | ") for line in cases[:28]} == {len(report.SHOWN) + 1}


def test_format_metric_shows_supported_digits() -> None:
    values = {"step_s_p50": 0.0041234, "step_s_ci95": (0.00405, 0.00421), "samples_per_s": 124_157.2}
    values |= {"peak_rss_bytes": 1.5 * 2**30, "fraction_of_roof": 0.713, "compulsory_bytes_per_s": None}
    assert report.format_metric("step_s_p50", values) == "4.12 ms"
    assert report.format_metric("samples_per_s", values) == "124k/s"
    assert report.format_metric("peak_rss_bytes", values) == "1.5 GiB"
    assert report.format_metric("fraction_of_roof", values) == "71 %"
    assert report.format_metric("compulsory_bytes_per_s", values) == "–"
    assert report.format_metric("step_s_ci95", values) == "4.05 ms to 4.21 ms"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (report_format.times(1.418, 1.38, 1.47), "1.42× [1.38, 1.47]"),
        (report_format.times(0.38, 0.26, 41550.0), "0.38× (too noisy to tell)"),
        (report_format.seconds(0.0041), "4.1 ms"),
        (report_format.seconds(3.2e-7), "320 ns"),
        (report_format.rate(12.34e9, "B/s"), "12.3 GB/s"),
        (report_format.rate(999.9e6, "B/s"), "1 GB/s"),
        (report_format.count(1_000_000), "1M"),
        (report_format.capacity(512 * 1024), "512 KiB"),
        (report_format.capacity(0), "0 B"),
        (report_format.percent(0.004), "0.4 %"),
        (report_format.words(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_engineering_formats(text: str, expected: str) -> None:
    assert text == expected


def test_labels_name_only_what_varies() -> None:
    assert varying([r.case for r in RECORDS[:18]]) == ["rows", "dim", "batch"]
    assert labels(RECORDS[:18])[RECORDS[0].key] == "rows 20k · dim 16 · B 128"
    assert labels(RECORDS[:1])[RECORDS[0].key] == "paper"


def test_labels_stay_distinct() -> None:
    assert len(set(labels(RECORDS).values())) == len(RECORDS)


def test_slices_differ_in_the_asked_axes_alone() -> None:
    groups = slices(RECORDS[:28], ("backend",))
    assert sorted(len(g) for g in groups) == [3, 3, 3, 3]
    assert len(slices(RECORDS[:28], ("rows", "dim", "batch"))[0]) == 18
    assert slices(RECORDS[:28], ("dtype",)) == []


def test_a_slice_says_what_it_holds_fixed() -> None:
    assert held(RECORDS[:28], RECORDS[:18]) == "tbe · forward"
    assert held(RECORDS[:18], RECORDS[:18]) == ""


def test_long_labels_lose_the_end_of_their_longest_part() -> None:
    assert fit("rows 1M · dim 64", 20) == "rows 1M · dim 64"
    assert fit("a_very_long_model_name · dim 64", 20) == "a_very_lon… · dim 64"


def test_labels_that_would_read_alike_keep_their_ends() -> None:
    names = [f"tbe_default num_rows=5000 batch_size=32 backend={b}" for b in ("tbe", "bag")]
    found = fit_apart([*names, "paper", "paper num_rows=20000 batch_size=128 dim=64"], 30)
    assert found[:2] == ["tbe_default…ze=32 backend=tbe", "tbe_default…ze=32 backend=bag"]
    assert found[2] == "paper"


def test_few_axes_tell_cases_apart() -> None:
    cases = [r.case for r in RECORDS[18:28]]
    assert telling(cases, ("backend", "phase")) == ["backend", "phase", "batch"]
    assert telling(cases[:1], ("backend",)) == []


def test_repeated_rows_are_not_called_overhead() -> None:
    cached = [r for r in RECORDS[:9] if r.case.batch_size == 2048]
    assert "Overhead" not in {s.topic for s in verdict(cached, MACHINE)}


@pytest.mark.parametrize("name", plots.names())
def test_every_plot_draws_describes_itself_and_is_reproducible(name: str) -> None:
    plot = plots.load(name)
    assert plot.TITLE
    assert plot.CAPTION
    assert len(plot.alt(RECORDS)) > 30
    texts = []
    for _ in range(2):
        with style.using("dark", "narrow"):
            figure = plot.draw(RECORDS, MACHINE)
            assert figure is not None
            texts.append(style.to_svg(figure))
    assert texts[0] == texts[1]
    assert texts[0].startswith("<svg")
    assert "<metadata" not in texts[0]


def test_a_disturbed_run_says_so_before_anything_else() -> None:
    found = RECORDS[:10]
    measured = [
        msgspec.structs.replace(r, measurement=msgspec.structs.replace(r.measurement, flags=("other_load",)))
        for r in found
    ]
    assert verdict(found, MACHINE)[0].topic != "Trust"
    said = verdict([*measured[:4], *found[4:]], MACHINE)[0]
    assert said.topic == "Trust"
    assert "4 of 10 cases" in said.text
    assert "quiet machine" in said.text


def test_the_embedding_has_a_sentence_even_where_another_stage_is_larger() -> None:
    topics = {s.topic: s.text for s in verdict([_mlp_heavy(r) for r in RECORDS[:9]], MACHINE)}
    assert "the top MLP is the largest" in topics["Stages"]
    assert "the embedding takes 20 % of the step" in topics["Embedding"]


def _mlp_heavy(record: Record) -> Record:
    """The record with four fifths of the step in the top MLP, and tables beyond the cache."""
    assert record.trace is not None
    assert record.inputs is not None
    stages = {
        "embedding": StageTime(forward_s=0.2e-3, backward_s=0.0, share_frac=0.2),
        "top_mlp": StageTime(forward_s=0.8e-3, backward_s=0.0, share_frac=0.8),
    }
    trace = msgspec.structs.replace(record.trace, stages=stages)
    inputs = msgspec.structs.replace(record.inputs, residency="dram")
    return msgspec.structs.replace(record, trace=trace, inputs=inputs)


@pytest.mark.parametrize("name", plots.names())
def test_every_plot_is_none_without_data(name: str) -> None:
    assert plots.load(name).draw([], MACHINE) is None
    assert plots.load(name).draw(RECORDS[-2:], MACHINE) is None


def test_unknown_plot_names_the_known() -> None:
    with pytest.raises(KeyError, match="roofline"):
        plots.load("pie")


def test_written_files_are_the_same_twice_and_link_only_present_traces(tmp_path: Path) -> None:
    few = RECORDS[:2]
    (tmp_path / "traces").mkdir()
    (tmp_path / few[0].trace.path).touch()  # type: ignore[union-attr]
    path = report.write_report(tmp_path / "report.html", sample_records.manifest(few), few)
    first = path.read_bytes()
    assert path == tmp_path / "report.html"
    assert first.count(b'<a href="traces/') == 1
    assert report.write_report(path, sample_records.manifest(few), few).read_bytes() == first
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# paper on")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.md", "traces"]


def test_a_trace_path_outside_the_run_is_not_linked(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    trace = msgspec.structs.replace(RECORDS[0].trace, path="../secret")
    home = tmp_path / "run"
    home.mkdir()
    few = [msgspec.structs.replace(RECORDS[0], trace=trace)]
    page = report.write_report(home / "report.html", sample_records.manifest(few), few).read_text(encoding="utf-8")
    assert "../secret" not in page


def test_importing_the_report_needs_neither_torch_nor_plotting() -> None:
    heavy = "{'torch', 'matplotlib', 'pandas', 'scipy', 'jinja2'}"
    code = f"import sys, bench.reporting.report, bench.metrics; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"index_ks": 0.004, "index_ks_lookups": 65_536}, []),
        ({"index_ks": 0.02, "index_ks_lookups": 65_536}, ["off the index law"]),
        ({"length_ks": 0.02, "length_ks_bags": 2048}, []),
        ({"reuse_asked": 0.5, "reuse_delivered": 0.49}, []),
        ({"reuse_asked": 0.9, "reuse_delivered": 0.07}, ["7.0 % of lookups repeat, 90 % asked"]),
        ({"length_ks": 0.1, "length_ks_bags": 2048}, ["off the length law"]),
        (
            {"replay": Replayed(file="a.pt", digest="0", samples=9, tables=2, remapped_frac=0.0, wrapped=False)},
            ["replay"],
        ),
        (
            {"replay": Replayed(file="a.pt", digest="0", samples=9, tables=2, remapped_frac=0.25, wrapped=True)},
            ["replay", "replay wrapped", "25 % of rows folded"],
        ),
    ],
)
def test_what_is_to_know_of_the_inputs_stands_beside_the_case(changes: dict[str, Any], flags: list[str]) -> None:
    record = next(r for r in sample_records.records() if r.inputs and r.inputs.residency != "cache")
    record = msgspec.structs.replace(record, inputs=msgspec.structs.replace(record.inputs, **changes))
    assert report_cases.input_flags(record) == flags
