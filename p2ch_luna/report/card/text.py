"""A card's sections as text for a terminal, and as Markdown for a page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from p2ch_luna.report.card.sections import Row, Section

WIDTH = 110  # characters of a line of text


def as_text(title: str, sections: Sequence[Section]) -> str:
    """For a terminal: tables aligned, sentences wrapped."""
    lines = [title]
    for section in sections:
        lines += ["", section.title, *_wrapped(section.lines), *_aligned(section.head, section.rows)]
    return "\n".join(lines)


def as_markdown(title: str, sections: Sequence[Section]) -> str:
    """For a page; sentences that begin with a dash become a list."""
    blocks = [f"# {title}"]
    for section in sections:
        blocks.append(f"## {section.title}")
        if section.lines:
            blocks.append("\n".join(_paragraphs(section.lines)))
        if section.rows:
            blocks.append("\n".join(_piped(section.head, section.rows)))
    return "\n\n".join(blocks) + "\n"


def _wrapped(sentences: Sequence[str]) -> Iterator[str]:
    for sentence in sentences:
        hang = "    " if sentence.startswith("- ") else "  "
        yield from textwrap.wrap(
            sentence, WIDTH, initial_indent="  ", subsequent_indent=hang, break_on_hyphens=False
        )


def _aligned(head: Row, rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    table = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield from textwrap.wrap(
            cells.rstrip(),
            WIDTH,
            initial_indent="  ",
            subsequent_indent=" " * (widths[0] + 4),
            drop_whitespace=True,
            break_on_hyphens=False,
            replace_whitespace=False,
        )


def _paragraphs(sentences: Sequence[str]) -> Iterator[str]:
    """A blank line between two, but within a list."""
    for k, sentence in enumerate(sentences):
        if k and not (sentence.startswith("- ") and sentences[k - 1].startswith("- ")):
            yield ""
        yield _escaped(sentence)


def _piped(head: Row, rows: Sequence[Row]) -> Iterator[str]:
    yield _row(head)
    yield "|" + "---|" * len(head)
    yield from map(_row, rows)


def _row(cells: Row) -> str:
    return "| " + " | ".join(_escaped(cell).replace("|", r"\|") for cell in cells) + " |"


def _escaped(text: str) -> str:
    """A star in a name is no emphasis."""
    return text.replace("*", r"\*")
