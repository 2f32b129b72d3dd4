"""The sentences of CONTRIBUTING.md about who imports whom, and that light verbs stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("bench", "workloads", "profiles")
FORBIDDEN = {"workloads": {"bench", "profiles"}, "profiles": {"bench", "workloads"}, "bench": set()}
LATE_ONLY = {"torch", "fbgemm_gpu", "torchrec", "pynvml", "matplotlib", "seaborn", "scipy", "pandas"}
TORCH_ROOMS = {
    "layers.py",
    "cross.py",
    "factorization.py",
    "pooling.py",
    "reference.py",
    "rounding.py",
    "steps.py",
    "tables.py",
} | {
    "tbe_module.py",
    "tbe_int_module.py",
    "torchrec_module.py",
}
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path, *, top_level: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def packages(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert not packages(imports(path, top_level=False)) & FORBIDDEN[package]
    if path.name not in ("__main__.py",):
        assert "bench.cli" not in imports(path, top_level=False)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_packages_are_imported_late_or_in_their_own_room(path: Path) -> None:
    heavy = packages(imports(path, top_level=True)) & LATE_ONLY
    if path.parent.name == "workloads" and path.name in TORCH_ROOMS:
        heavy -= {"torch", "fbgemm_gpu", "torchrec", "scipy"}
    assert not heavy


@pytest.mark.parametrize(
    "module",
    [
        "bench.cli",
        "bench.commands.catalogue",
        "bench.commands.compare",
        "bench.commands.gate",
        "bench.commands.inspect_traces",
        "bench.commands.results",
        "bench.gate.conclude",
        "bench.plan",
        "bench.reporting.report",
        "bench.store",
    ],
)
def test_reading_verbs_import_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_own_version_is_asked_in_one_place_which_knows_what_to_say_without_one() -> None:
    asking = [path.relative_to(ROOT) for path in FILES if 'version("dlrm-bench")' in path.read_text().replace("'", '"')]
    assert asking == [Path("bench/sweep.py")]


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    names = {path.stem for path in FILES if path.parent.name in PACKAGES}
    assert not names & {"inspect", "profile", "trace", "types", "statistics", "platform", "select"}
