"""The report's drawings. Horizontal positions are percentages and heights are pixels, so text never shrinks on a phone.

Every drawing says in its label what it shows, and no meaning rests on colour alone.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from agentlightning.trainer import wording
from agentlightning.trainer.result import HistoryEntry, TrainingResult

MARKS = {"accepted": "●", "rejected": "○", "refused": "×"}
_PLOT_HEIGHT = 190
_CURVE_HEIGHT = 110


class Scale(NamedTuple):
    """Values to positions, in percent of the width or height."""

    low: float
    high: float

    def at(self, value: float) -> float:
        return round(100 * (value - self.low) / (self.high - self.low), 3)


class Round(NamedTuple):
    """What one iteration of one stage tried."""

    stage: str
    iteration: int
    entries: list[HistoryEntry]


def comparison(result: TrainingResult, after_label: str) -> str:
    """Two bars and, below them, the paired difference with its interval against zero."""
    if result.baseline is None or result.final is None:
        return ""
    means = [result.baseline, result.final]
    scale = Scale(min(0.0, *means), max(1.0, *means))
    rows = [_bar("Original", result.baseline, scale, "before")]
    if result.verdict != "kept original":
        rows.append(_bar(after_label, result.final, scale, "after"))
    if result.difference is not None:
        rows.append(_difference(result.difference, result.interval))
    return f'<figure class="comparison">{"".join(rows)}</figure>'


def split_bar(counts: Sequence[tuple[str, int]]) -> str:
    """One bar divided among named counts, e.g. won, same, lost."""
    total = sum(count for _, count in counts)
    if not total:
        return ""
    parts: list[str] = []
    start = 0.0
    for name, count in counts:
        width = 100 * count / total
        parts.append(f'<rect class="{name}" x="{start:.3f}%" width="{width:.3f}%" height="12"/>')
        start += width
    label = ", ".join(f"{count} {name}" for name, count in counts)
    return f'<svg class="split" height="12" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def progress(history: Sequence[HistoryEntry]) -> str:
    """Validation mean of every candidate by round; the line is the incumbent, moved only by accepted candidates."""
    rounds = rounds_of(history)
    means = [entry.validation_mean for entry in history if entry.validation_mean is not None]
    if not means:
        return ""
    scale = _padded(means)
    across = Scale(-0.5, max(len(rounds) - 0.5, 0.5))
    shapes = [_grid(scale), _incumbent(rounds, scale, across)]
    for index, entry in ((index, entry) for index, one in enumerate(rounds) for entry in one.entries):
        shapes.append(_point(entry, across.at(index), scale))
    ticks = "".join(f'<span style="top:{100 - scale.at(v)}%">{wording.number(v)}</span>' for v in _ticks(scale))
    is_unscored = any(entry.validation_mean is None and entry.decision != "refused" for entry in history)
    unscored = "<span>at the foot: dropped before validation</span>" if is_unscored else ""
    label = f"Validation mean of {wording.counted(len(means), 'candidate')} in {wording.counted(len(rounds), 'round')}"
    return (
        f'<figure class="progress"><div class="plot"><div class="axis" aria-hidden="true">{ticks}</div>'
        f'<svg height="{_PLOT_HEIGHT}" role="img" aria-label="{label}">{"".join(shapes)}</svg></div>'
        '<figcaption><span class="key accepted">accepted</span><span class="key rejected">rejected</span>'
        f'<span class="key refused">refused before it ran</span>{unscored}<span class="key line">best so far</span>'
        '<span class="to-right">rounds of the search →</span></figcaption></figure>'
    )


def curve(values: Sequence[float], title: str) -> str:
    """One number over the iterations of a stage, as a line."""
    scale, across = _padded(values), Scale(0, max(1, len(values) - 1))
    places = [(across.at(index), 100 - scale.at(value)) for index, value in enumerate(values)]
    lines = "".join(
        f'<line class="incumbent" x1="{x1}%" x2="{x2}%" y1="{y1}%" y2="{y2}%"/>'
        for (x1, y1), (x2, y2) in pairwise(places)
    )
    ticks = "".join(f'<span style="top:{100 - scale.at(v)}%">{wording.number(v)}</span>' for v in _ticks(scale))
    label = f"{title}: {wording.number(values[0])} at first, {wording.number(values[-1])} at last"
    return (
        f'<figure class="progress"><div class="plot"><div class="axis" aria-hidden="true">{ticks}</div>'
        f'<svg height="{_CURVE_HEIGHT}" role="img" aria-label="{html.escape(label)}">{_grid(scale)}{lines}</svg></div>'
        f"<figcaption><span>{html.escape(title)}</span>"
        f'<span class="to-right">{wording.counted(len(values), "iteration")} →</span></figcaption></figure>'
    )


def rounds_of(history: Sequence[HistoryEntry]) -> list[Round]:
    """Consecutive entries of the same stage and iteration belong together."""
    rounds: list[Round] = []
    for entry in history:
        if not rounds or (rounds[-1].stage, rounds[-1].iteration) != (entry.stage, entry.iteration):
            rounds.append(Round(entry.stage, entry.iteration, []))
        rounds[-1].entries.append(entry)
    return rounds


def _bar(label: str, value: float, scale: Scale, kind: str) -> str:
    zero, end = scale.at(0.0), scale.at(value)
    return (
        f'<span class="label">{html.escape(label)}</span>'
        f'<svg class="{kind}" height="22" role="img" aria-label="{html.escape(label)}: {wording.number(value)}">'
        '<rect class="track" width="100%" height="22" rx="3"/>'
        f'<rect class="bar" x="{min(zero, end)}%" width="{abs(end - zero)}%" height="22" rx="3"/></svg>'
        f'<span class="value">{wording.number(value)}</span>'
    )


def _difference(mean: float, interval: tuple[float, float] | None) -> str:
    low, high = interval or (mean, mean)
    reach = 1.2 * max(abs(low), abs(high), abs(mean), 1e-9)
    scale = Scale(-reach, reach)
    left, middle, right = scale.at(low), scale.at(mean), scale.at(high)
    whisker = "".join(
        f'<line class="whisker" x1="{x1}%" x2="{x2}%" y1="{y1}" y2="{y2}"/>'
        for x1, x2, y1, y2 in ((left, right, 15, 15), (left, left, 9, 21), (right, right, 9, 21))
    )
    span = f"{wording.signed(low)} to {wording.signed(high)}" if interval else "no interval"
    return (
        '<span class="label">Difference</span>'
        f'<svg class="difference" height="48" role="img" aria-label="Difference {wording.signed(mean)}, {span}">'
        '<line class="rule" x1="0" x2="100%" y1="30" y2="30"/><line class="zero" x1="50%" x2="50%" y1="0" y2="30"/>'
        f'{whisker if interval else ""}<circle class="mean" cx="{middle}%" cy="15" r="5"/>'
        '<text x="0" y="45">← worse</text><text x="50%" y="45" text-anchor="middle">no difference</text>'
        '<text x="100%" y="45" text-anchor="end">better →</text></svg>'
        f'<span class="value">{wording.signed(mean)}<small>{span}</small></span>'
    )


def _incumbent(rounds: Sequence[Round], scale: Scale, across: Scale) -> str:
    """Steps from one accepted candidate to the next."""
    shapes: list[str] = []
    level: float | None = None
    since = 0.0
    for index, one in enumerate(rounds):
        accepted = [
            e.validation_mean for e in one.entries if e.decision == "accepted" and e.validation_mean is not None
        ]
        if not accepted:
            continue
        here, height = across.at(index), 100 - scale.at(accepted[-1])
        if level is not None:
            shapes.append(f'<line class="incumbent" x1="{since}%" x2="{here}%" y1="{level}%" y2="{level}%"/>')
            shapes.append(f'<line class="incumbent" x1="{here}%" x2="{here}%" y1="{level}%" y2="{height}%"/>')
        since, level = here, height
    if level is not None:
        shapes.append(f'<line class="incumbent" x1="{since}%" x2="100%" y1="{level}%" y2="{level}%"/>')
    return "".join(shapes)


def _point(entry: HistoryEntry, x: float, scale: Scale) -> str:
    what = f"{entry.policy_id}: {entry.decision}"
    if entry.validation_mean is None:
        mark = f"{MARKS[entry.decision]}<title>{html.escape(what)}</title>"
        return f'<text class="{entry.decision}" x="{x}%" y="{_PLOT_HEIGHT - 4}">{mark}</text>'
    title = html.escape(f"{what}, {wording.number(entry.validation_mean)}")
    radius = 6 if entry.decision == "accepted" else 4
    y = 100 - scale.at(entry.validation_mean)
    return f'<circle class="{entry.decision}" cx="{x}%" cy="{y}%" r="{radius}"><title>{title}</title></circle>'


def _grid(scale: Scale) -> str:
    heights = [100 - scale.at(value) for value in _ticks(scale)]
    return "".join(f'<line class="grid" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>' for y in heights)


def _padded(values: Sequence[float]) -> Scale:
    low, high = min(values), max(values)
    margin = max(0.15 * (high - low), 0.01 * max(abs(low), abs(high)), 1e-6)
    return Scale(low - margin, high + margin)


def _ticks(scale: Scale) -> list[float]:
    """Two to six round values inside the scale."""
    raw = (scale.high - scale.low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.99)
    first = math.ceil(scale.low / step)
    return [round(k * step, 12) for k in range(first, math.floor(scale.high / step) + 1)]
