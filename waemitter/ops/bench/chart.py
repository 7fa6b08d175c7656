"""A picture of a report, as SVG: who drains a queue how fast, and how much of each bar is used. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

WIDTH: Final = 960
LABELS: Final = 345  # pixels on the left
NUMBERS: Final = 240  # and on the right
ROW: Final = 22
BAR: Final = 14
GAP: Final = 46  # between panels, with the next one's title
TOP: Final = 34
WHOLE: Final = 1000  # from here on a figure has no fractions

STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.t{font-weight:600;font-size:14px}.s{fill:#57606a}"
    ".ours{fill:#1a7f5a}.other{fill:#9aa4af}.good{fill:#1a7f5a}.bad{fill:#cf222e}.line{stroke:#24292f;stroke-dasharray:3 3}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}.line{stroke:#e6edf3}.other{fill:#5b6570}}"
)


@dataclass(frozen=True, slots=True)
class Strip:
    """One row of a panel: a bar of `share` of the width (0 to 1), and what stands behind it."""

    label: str
    share: float
    told: str
    kind: str


@dataclass(frozen=True, slots=True)
class Panel:
    """`mark`: where a dashed line stands, as a share of the width."""

    title: str
    strips: Sequence[Strip]
    mark: float | None = None


def chart(report: Mapping[str, Any]) -> str:
    """Draw a report, as `Report.plain()` gives it, or as it was written to a file."""
    panels = [*_rates(report["bars"]), _used(report["bars"])]
    panels = [panel for panel in panels if panel.strips]
    height = TOP + sum(ROW * len(panel.strips) + GAP for panel in panels)
    parts: list[str] = []
    y = TOP
    for panel in panels:
        parts += _drawn(panel, y)
        y += ROW * len(panel.strips) + GAP
    machine = report["machine"]
    foot = (
        f"Medians of {report['plan']['runs']} runs on {machine['processors']} processors ({machine['architecture']}),"
        f" Python {machine['python']}."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Benchmarks">'
        f"<style>{STYLE}</style>{''.join(parts)}{_text(0, height - 8, foot, 's')}</svg>\n"
    )


def _rates(bars: Sequence[Mapping[str, Any]]) -> Iterable[Panel]:
    """A panel for each latency: the daemon among those that were given the same work."""
    rates: dict[str, list[tuple[str, float]]] = {}
    for bar in bars:
        if bar["group"] == "drain" and bar["unit"] == "a second":
            latency, _, who = bar["name"].partition(": ")
            rates.setdefault(latency, []).append((who, bar["median"]))
    for latency, found in rates.items():
        most = max(rate for _, rate in found)
        yield Panel(
            f"Messages a second, a full queue; answers after {latency.removeprefix('drain, ')}",
            [
                Strip(
                    "waemitter"
                    if who == "daemon"
                    else "the bare pipeline"
                    if who == "bare"
                    else who,
                    rate / most,
                    f"{rate:,.0f}",
                    "ours" if who == "daemon" else "other",
                )
                for who, rate in sorted(found, key=lambda one: -one[1])
            ],
        )


def _used(bars: Sequence[Mapping[str, Any]]) -> Panel:
    """What is wanted is the line: a bar that ends before it is met."""
    strips = []
    about = ""
    for bar in bars:
        if not bar["name"].startswith("…"):
            about = bar["name"].partition(":")[0]
        if not bar["wanted"]:
            continue
        limit = float(bar["wanted"][2:].replace(",", ""))
        measured = bar["median"]
        at_most = bar["wanted"].startswith("≤")
        over, under = (measured, limit) if at_most else (limit, measured)
        used = over / under if under else float(over > 0)
        strips.append(
            Strip(
                bar["name"].replace("…", f"{about}:"),
                min(used, 2.0) / 2,
                f"{_figure(measured)} {bar['unit']} ({bar['wanted']})",
                "good" if bar["met"] else "bad",
            )
        )
    return Panel("How much of each bar is used (the line: all of it)", strips, mark=0.5)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= WHOLE else f"{value:.3g}"


def _drawn(panel: Panel, y: float) -> Iterable[str]:
    space = WIDTH - LABELS - NUMBERS
    yield _text(0, y - 12, panel.title, "t")
    for n, strip in enumerate(panel.strips):
        at = y + n * ROW
        yield _text(LABELS - 8, at + BAR - 3, strip.label, "", anchor="end")
        length = max(1.0, space * strip.share)
        yield (
            f'<rect class="{strip.kind}" x="{LABELS}" y="{at}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        )
        behind = length if panel.mark is None else space  # no number stands on the line
        yield _text(LABELS + behind + 6, at + BAR - 3, strip.told, "s")
    if panel.mark is not None:
        x = LABELS + space * panel.mark
        end = y + ROW * len(panel.strips)
        yield f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 4}" y2="{end}"/>'


def _text(x: float, y: float, words: str, kind: str, *, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
