"""Tests that need hardware are skipped with the reason where it is absent."""

from __future__ import annotations

import pytest


def missing_gpu() -> str | None:
    """Why nothing can run on a GPU here, or None."""
    try:
        import torch
    except ImportError as error:
        return f"torch does not import: {error}"
    if not torch.version.cuda:
        return "this torch is built without CUDA"
    return None if torch.cuda.is_available() else "no CUDA device"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing_gpu()
    for item in items:
        if reason and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=reason))
