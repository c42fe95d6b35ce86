"""The text of a contract as a page: CommonMark, no HTML of others, headings below the page's own."""

from __future__ import annotations

import functools

from markdown_it import MarkdownIt
from markupsafe import Markup

from gateway.console.words import LANGUAGES, Language

BETWEEN = "\n---\n"
"""Between the English and the French half; what a party wrote is a quotation, and cannot have this line."""
KEPT = 200
"""Texts that are kept as they were rendered: they never change."""
BELOW = 2
"""A page has one heading of the first level and sections of the second: the text's first is the third."""
_COMMONMARK = MarkdownIt("commonmark", {"html": False})


@functools.lru_cache(KEPT)
def readable(text: bytes) -> list[tuple[Language, Markup]]:
    """The text for people, each language's half of it. What is signed are its bytes, whose digest the page names."""
    halves = text.decode().split(BETWEEN)
    if len(halves) != len(LANGUAGES):
        return [("en", _rendered(text.decode()))]
    return list(zip(LANGUAGES, map(_rendered, halves), strict=True))


def _rendered(text: str) -> Markup:
    tokens = _COMMONMARK.parse(text)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(6, int(token.tag[1]) + BELOW)}"
    rendered: str = _COMMONMARK.renderer.render(tokens, _COMMONMARK.options, {})
    return Markup(rendered)  # noqa: S704 - rendered from CommonMark with HTML off, so that every sign of others is escaped
