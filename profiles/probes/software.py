"""Versions of what computes, read from package metadata: torch itself is not imported (that takes seconds)."""

from __future__ import annotations

import ast
import importlib.util
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from profiles.machine import Software
from profiles.probes.files import read_text

FBGEMM_PACKAGES = ("fbgemm-gpu", "fbgemm-gpu-cpu", "fbgemm-gpu-nightly", "fbgemm-gpu-nightly-cpu")


def package_version(*names: str) -> str | None:
    """Version of the first of these distributions that is installed."""
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def torch_folder() -> Path | None:
    """Where torch is installed, found without importing it."""
    spec = importlib.util.find_spec("torch")
    return Path(spec.origin).parent if spec and spec.origin else None


def parse_torch_version(text: str) -> dict[str, str | None]:
    """The constants of torch/version.py: __version__, cuda, hip, git_version."""
    values: dict[str, str | None] = {}
    for node in ast.parse(text).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
            values[target.id] = value.value if isinstance(value.value, str) else None
    return values


def parse_torch_blas(text: str) -> str | None:
    """Which BLAS torch was built with, from ATen/Config.h: 'mkl', 'blas' or 'none', '+onednn' appended."""
    flags = dict(re.findall(r"#define AT_(\w+?)(?:_ENABLED)?\(\) ([01])", text))
    if "MKL" not in flags:
        return None
    blas = "mkl" if flags["MKL"] == "1" else "blas" if flags.get("BUILD_WITH_BLAS") == "1" else "none"
    return blas + ("+onednn" if flags.get("MKLDNN") == "1" else "")


def read_software() -> Software:
    """Versions on this machine."""
    folder = torch_folder()
    constants = parse_torch_version(read_text(folder / "version.py") or "") if folder else {}
    blas = parse_torch_blas(read_text(folder / "include/ATen/Config.h") or "") if folder else None
    return Software(
        python=platform.python_version(),
        torch=constants.get("__version__") or package_version("torch"),
        cuda=constants.get("cuda"),
        blas=blas,
        fbgemm=package_version(*FBGEMM_PACKAGES),
        torchrec=package_version("torchrec"),
        kernel=platform.release(),
        libc="-".join(platform.libc_ver()).strip("-") or "unknown",
    )
