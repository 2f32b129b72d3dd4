"""A user's own code by `path.py:function`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any


def load_function(code: str) -> Callable[[], Any]:
    """The function that `path.py:function` names. Raises ImportError or AttributeError with both in the message."""
    path, _, name = code.rpartition(":")
    module_spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if module_spec is None or module_spec.loader is None:
        raise ImportError(f"{path} cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    function: Callable[[], Any] | None = getattr(module, name, None)
    if function is None:
        raise AttributeError(f"{path} has no function {name}")
    return function
