"""Shares as bars, as wide as the terminal, readable without colour and without Unicode."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console

_LONGEST_BAR = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_bars(title: str | None, scores: Sequence[Mapping[str, Any]], first: bool = True) -> None:
    """Print [{"label": …, "score": 0 … 1}, …] under a title, with an empty line before all but the first."""
    console = Console()
    lines = list(bar_lines(scores, console.width - (2 if title else 0), console.encoding.startswith("utf")))
    if title is not None:
        lines = [*[""] * (not first), printable(title), *(f"  {line}" for line in lines)]
    print_lines(lines)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines, with "?" for what standard output cannot encode."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        typer.echo(line.encode(encoding, "replace").decode(encoding))


def bar_lines(scores: Sequence[Mapping[str, Any]], width: int, unicode: bool = True) -> Iterator[str]:
    """A line for each score, label, percentage and bar, at most `width` columns wide if that is 20 or more."""
    percentage = 10
    longest = max(cell_len(printable(row["label"])) for row in scores)
    # A tight line keeps ten columns for the bar, then eight for the label.
    label = min(longest, max(8, width - percentage - 10))
    room = max(0, min(_LONGEST_BAR, width - label - percentage))
    for row in scores:
        share = f"{100 * row['score']:6.1f} %"
        yield f"{fitted(row['label'], label, unicode)}{share}  {_bar(row['score'], room, unicode)}".rstrip()


def fitted(text: str, width: int, unicode: bool = True) -> str:
    """The text in exactly `width` columns of a terminal, cut with "…" or filled with spaces."""
    text = printable(text)
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1) + ("…" if unicode else "~")
    return set_cell_size(text, width)


def printable(text: str) -> str:
    """The text on one line, without control characters and undecodable bytes of file names."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)


def _bar(share: float, width: int, unicode: bool) -> str:
    if not unicode:
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
