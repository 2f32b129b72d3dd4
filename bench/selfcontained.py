"""Pages that fetch nothing: a template with its style and script inside, and a policy that allows nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, *, css: Sequence[str], js: Sequence[str], **context: Any) -> str:
    """The template filled in, with these style sheets and scripts joined in order; everything else is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _joined(css), _joined(js)
    own = {"css": style, "js": script, "css_hash": _csp_hash(style), "js_hash": _csp_hash(script)}
    return environment.get_template(template).render(**context, **own)


def _joined(names: Sequence[str]) -> str:
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
