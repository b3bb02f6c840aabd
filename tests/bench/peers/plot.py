"""The same figures as a picture: a panel for each work and size, a bar for each client, whiskers from least to most."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from .figures import END_TO_END, ONE_BY_ONE, PIPE, PRODUCE, READ, Figure, Row, rows
from .report import belongs, copies, size_of

_COLOURS = {
    "bare pipe": "#888888",
    "lograft": "#1b6ca8",
    "lograft-memory": "#7ab8e0",
    "kafka": "#c8553d",
    "kafka-fsync": "#e8a598",
    "nats": "#3a7d44",
    "nats-fsync": "#9ccc9c",
    "rabbitmq": "#d18f00",
}


def draw(figures: Sequence[Figure], *, systems: Mapping[str, str], title: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = rows(figures, list(systems))
    panels = [
        (work, size, [row for row in found if row.work == work and belongs(row, work, size)])
        for work in (PRODUCE, READ, END_TO_END, ONE_BY_ONE)
        for size in sorted({row.record_bytes for row in found if row.work == work and row.system != PIPE})
    ]
    if not panels:
        return
    lines = (len(panels) + 1) // 2
    tallest = max(len(chosen) for _, _, chosen in panels)
    sheet, axes = pyplot.subplots(lines, 2, figsize=(17, lines * (1.0 + 0.36 * tallest)), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (work, size, chosen) in zip(axes.flat, panels, strict=False):
        _panel(axis, work, size, chosen, systems)
    sheet.suptitle("\n".join(textwrap.wrap(title, 190)), fontsize=9)
    sheet.tight_layout(rect=(0, 0, 1, 0.99))
    sheet.savefig(path, dpi=110)
    pyplot.close(sheet)


def _panel(axis, work: str, size: int, chosen: Sequence[Row], systems: Mapping[str, str]) -> None:
    latency = work in (END_TO_END, ONE_BY_ONE)
    places = range(len(chosen))
    names = [f"{row.client}\n{row.system}: {copies(systems[row.system])}" for row in chosen]
    for value, alpha in (("p99_ms", 0.45), ("p50_ms", 1.0)) if latency else (("mb_per_s", 1.0),):
        spreads = [row.values[value] for row in chosen]
        axis.barh(
            places,
            [spread.median for spread in spreads],
            xerr=[
                [spread.median - spread.least for spread in spreads],
                [spread.most - spread.median for spread in spreads],
            ],
            color=[_COLOURS.get(row.system, "#555555") for row in chosen],
            alpha=alpha,
            capsize=2,
            error_kw={"linewidth": 0.8},
        )
        for place, spread in zip(places, spreads, strict=True):
            axis.text(spread.most, place, f" {_short(spread.median)}", va="center", fontsize=7)
    axis.set_yticks(list(places), names, fontsize=6.5)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    if latency:
        axis.set_xscale("log")
    axis.set_xlabel("ms: p50 (strong), p99 (faint)" if latency else "MB/s", fontsize=7)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_title(f"{work}, {size_of(size)} records" + (", 1,000 a second" if work == END_TO_END else ""), fontsize=9)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
