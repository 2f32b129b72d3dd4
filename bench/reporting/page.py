"""A page of sections: what a gate and a self-test are told as."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench import selfcontained
from bench.reporting.pictures import Picture
from bench.reporting.verdict import Sentence
from bench.sections import Section


class Page(NamedTuple):
    """Plain text, pictures apart. `commands`: what a command does, and the command."""

    title: str
    subtitle: str
    verdict: tuple[Sentence, ...]
    sections: tuple[Section, ...]
    commands: tuple[tuple[str, str], ...]


def render_page(page: Page, pictures: Sequence[Picture] = ()) -> str:
    """One self-contained page: nothing is fetched, and the page's own policy forbids it."""
    return selfcontained.render("page.html.j2", css=["report.css"], js=[], page=page, pictures=pictures)
