"""What a SUITE means on either side, and the checkouts that both sides get."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.errors import UsageError
from bench.gate.loading import CONTROL_ROWS, control
from bench.gate.revisions import checkouts, repository, resolve
from bench.gate.suite import Place, located, not_gated, suite_cases
from bench.records import Case
from workloads.spec import SpecError

SWEEP = '[[grid]]\npreset = "tiny"\n[grid.axes]\nbatch_size = [8, 16]\n'


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    root.mkdir()
    git(root, "init", "-q")
    (root / "steps.py").write_text("old = 1\n")
    (root / "gone.py").write_text("")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one")
    return root


def place(root: Path) -> Place:
    return Place(root=root, folder=root)


def test_sides_have_their_own_files_and_the_working_tree_is_overlaid(repo: Path) -> None:
    (repo / "steps.py").write_text("new = 1\n")
    (repo / "gone.py").unlink()
    (repo / "untracked.py").write_text("")
    (repo / ".gitignore").write_text("ignored.py\n")
    (repo / "ignored.py").write_text("")
    base, head = resolve(repo, "HEAD", sys.executable), resolve(repo, ".", sys.executable)
    assert base.changes is None
    assert head.changes is not None
    with checkouts(repo, base, head) as (old, new):
        assert old is not None
        assert len(str(old)) == len(str(new))
        assert (old / "steps.py").read_text() == "old = 1\n"
        assert (new / "steps.py").read_text() == "new = 1\n"
        assert (old / "gone.py").exists()
        assert not (new / "gone.py").exists()
        assert (new / "untracked.py").exists()
        assert not (new / "ignored.py").exists()
    assert not new.exists()
    listed = subprocess.run(["git", "-C", str(repo), "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(listed.stdout.splitlines()) == 1


def test_a_worktree_of_the_users_whose_disk_is_away_keeps_its_record(repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "--detach", "--quiet", str(tmp_path / "mine"))
    (tmp_path / "mine").rename(tmp_path / "away")
    head = resolve(repo, "HEAD", sys.executable)
    with checkouts(repo, head, head) as (old, new):
        assert old is not None
        (old / ".git").unlink()
        shutil.rmtree(new)
    assert [p.name for p in (repo / ".git" / "worktrees").iterdir()] == ["mine"]
    assert not old.exists()
    (tmp_path / "away").rename(tmp_path / "mine")
    git(tmp_path / "mine", "status")


@pytest.mark.parametrize("staged", [False, True])
def test_a_file_may_become_a_folder_and_a_folder_a_file_or_a_link(repo: Path, tmp_path: Path, staged: bool) -> None:
    outside = tmp_path / "outside"
    for folder, text in ((repo / "package", "old"), (repo / "linked", "old"), (outside, "the user's")):
        folder.mkdir()
        (folder / "inner.py").write_text(text)
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "two")
    for folder in (repo / "package", repo / "linked"):
        shutil.rmtree(folder)
    (repo / "package").write_text("a file now")
    (repo / "linked").symlink_to(outside)
    (repo / "gone.py").unlink()
    (repo / "gone.py").mkdir()
    (repo / "gone.py" / "inner.py").write_text("a folder now")
    (repo / "steps.py").unlink()
    if staged:
        git(repo, "add", "-A")
    with checkouts(repo, None, resolve(repo, ".", sys.executable)) as (_, new):
        assert (new / "package").read_text() == "a file now"
        assert (new / "gone.py" / "inner.py").read_text() == "a folder now"
        assert (new / "linked").readlink() == outside
        assert not (new / "steps.py").exists()
    assert (outside / "inner.py").read_text() == "the user's"


def test_an_unknown_revision_is_told_with_what_there_is(repo: Path) -> None:
    with pytest.raises(UsageError, match=r"nope: not a revision .* one"):
        resolve(repo, "nope", sys.executable)
    with pytest.raises(UsageError, match="no such interpreter"):
        resolve(repo, "HEAD", "/no/python")
    with pytest.raises(UsageError, match="no git repository"):
        repository(repo.parent)


def test_a_changed_sweep_gives_cases_to_one_side_only(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for root, text in ((old, SWEEP), (new, SWEEP.replace("16", "32"))):
        root.mkdir()
        (root / "mine.toml").write_text(text)
    found = {c.name: c for c in suite_cases(["mine.toml"], place(old), place(new))}
    assert found["tiny batch_size=8"].same
    assert found["tiny batch_size=16"].head is None
    assert found["tiny batch_size=32"].base is None


def test_a_sweep_file_that_base_lacks_is_asked_of_both(tmp_path: Path) -> None:
    for side in ("old", "new"):
        (tmp_path / side).mkdir()
    (tmp_path / "new" / "mine.toml").write_text(SWEEP)
    found = suite_cases(["mine.toml"], place(tmp_path / "old"), place(tmp_path / "new"))
    assert len(found) == 2
    assert all(c.same for c in found)
    gone = suite_cases(["mine.toml"], place(tmp_path / "new"), place(tmp_path / "old"))
    assert all(c.head is None for c in gone)


def test_a_preset_that_changed_is_the_same_name_and_other_work(tmp_path: Path) -> None:
    from workloads import presets

    text = (Path(presets.__file__).parent / "tiny.toml").read_text()
    for side, changed in (("old", text), ("new", text.replace("num_rows = ", "num_rows = 1"))):
        root = tmp_path / side
        (root / "workloads" / "presets").mkdir(parents=True)
        (root / "workloads" / "presets" / "tiny.toml").write_text(changed)
        (root / "mine.toml").write_text(SWEEP)
    assert "num_rows = " in text
    for case in suite_cases(["mine.toml"], place(tmp_path / "old"), place(tmp_path / "new")):
        assert case.base is not None
        assert case.head is not None
        assert not case.same


def test_code_is_relative_to_the_repository_wherever_the_command_was_given(repo: Path) -> None:
    inside = Place(root=repo, folder=repo / "benchmarks")
    (case,) = suite_cases(["./steps.py:f"], inside, inside)
    assert case.head is not None
    assert case.head.code == "benchmarks/steps.py:f"
    assert case.same
    assert located("benchmarks/steps.py:f", Path("/side")) == "/side/benchmarks/steps.py:f"
    assert located("/else/steps.py:f", Path("/side")) == "/else/steps.py:f"


@pytest.mark.parametrize("argument", ["steps.py:", "steps.py:a-b", "none.toml", "quik"])
def test_a_suite_that_means_nothing_is_refused(repo: Path, argument: str) -> None:
    with pytest.raises(SpecError):
        suite_cases([argument], place(repo), place(repo))


@pytest.mark.parametrize(("sweep", "count"), [("gate", 8), ("gate20", 20)])
def test_the_suites_for_self_tests_hold_cases_that_can_be_gated(tmp_path: Path, sweep: str, count: int) -> None:
    place = Place(root=tmp_path, folder=tmp_path)
    found = suite_cases([sweep], None, place)
    assert len(found) == count
    cases = [c.head for c in found if c.head is not None]
    assert {c.phase for c in cases} == {"forward", "train_step"}
    assert len({c.model.variant for c in cases if c.model is not None}) >= 5
    assert not any(not_gated(c) for c in cases)


def test_what_the_gate_would_run_otherwise_is_refused() -> None:
    assert not_gated(Case()) is None
    for changes in ({"execution": "compile"}, {"cache_mode": "cold"}, {"allocator": "default"}, {"tf32": True}):
        assert not_gated(msgspec.structs.replace(Case(), **changes)) is not None


def test_the_gathering_control_reads_every_row_once_from_whole_cache_lines() -> None:
    loaded = control("gather")
    rows = np.concatenate(loaded.inputs)
    out = loaded.step(loaded.inputs[0])
    assert np.array_equal(np.sort(rows), np.arange(CONTROL_ROWS))
    assert out.ctypes.data % 64 == 0
    assert out[0].nbytes % 64 == 0
    assert (out == 1).all()


def test_settings_of_a_grid_of_own_code_make_cases_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[[grid]]\ncode = "steps.py:step"\n[grid.axes]\nnum_threads = [1, 2]\n')
    found = suite_cases(["mine.toml"], place(tmp_path), place(tmp_path))
    assert [c.name for c in found] == ["steps.py:step num_threads=1", "steps.py:step num_threads=2"]
    assert [c.head.num_threads for c in found if c.head] == [1, 2]
    assert not any(not_gated(c.head) for c in found if c.head)
    (tmp_path / "mine.toml").write_text('[[grid]]\ncode = "steps.py:step"\nset = {batch_size = 7}\n')
    (case,) = suite_cases(["mine.toml"], place(tmp_path), place(tmp_path))
    assert case.head is not None
    assert "batch_size 7" in str(not_gated(case.head))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b'[[grid]]\npreset = "tiny"\n[grid.axes]\ndim = []\n', "an axis needs at least one value"),
        (b'[[grid]]\ncode = "steps.py:step"\nset = {dim = 7}\n', "setting of your own code"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_sweep_that_would_quietly_lose_cases_is_refused(tmp_path: Path, text: bytes, told: str) -> None:
    (tmp_path / "mine.toml").write_bytes(text)
    with pytest.raises(SpecError, match=told):
        suite_cases(["mine.toml"], None, place(tmp_path))
