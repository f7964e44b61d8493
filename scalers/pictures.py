"""Figures of a replay and of a forecast, readable without explanation. Needs matplotlib."""

import math
from datetime import UTC
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scalers.hpa import SYNC_SECONDS
from scalers.series import Series
from scalers.simulate.foresight import Foresight
from scalers.simulate.frontier import CPU, ORACLE, REACTIVE, Frontier, Point
from scalers.simulate.plant import Workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY, _RED, _BLUE, _GREEN, _INK = "#8a8f98", "#c8453b", "#2f6fb7", "#2b8a57", "#22262b"
_AMBER = "#c98a1b"
#: Points of a line in a picture: more cannot be seen.
_POINTS = 1500
_BLUES = {0.5: "#a9c8ea", 0.8: "#6fa3dc", 0.9: "#2f6fb7", 0.95: "#123f78"}


class PicturesMissingError(RuntimeError):
    """matplotlib is not installed; the text says how to get it."""


def _figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PicturesMissingError(
            "pictures need matplotlib, which is not installed; pip install 'healer[pictures]', "
            "or leave out --png and --html"
        ) from error
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def frontier_picture(found: Frontier, workload: Workload, title: str) -> "Figure":
    """Left what each policy costs and misses; right the worst hours under the two that matter."""
    figure = _figure(14.0, 9.0)
    figure.suptitle(title, fontsize=15, fontweight="bold", x=0.01, ha="left", color=_INK)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.25, 1.0])
    upper, lower = parts
    _curves(upper.subplots(), found)
    _worst_hours(lower.subplots(), found, workload)
    return figure


def _curves(axes: "Axes", found: Frontier) -> None:
    drawn: list[Point] = []
    for kind in found.kinds:
        if kind.peaks and kind != (found.better.kind if found.better else None):
            continue  # means and peaks together would be ten lines
        points = sorted(found.of(kind), key=lambda point: point.outcome.pod_hours)
        if kind.name == REACTIVE:
            style = {"color": _RED, "linewidth": 2.6, "label": "plain HPA", "zorder": 3}
        elif kind.name == CPU:
            style = {"color": _AMBER, "linewidth": 1.6, "linestyle": ":",
                     "label": "plain HPA on CPU utilisation"}  # fmt: skip
        elif kind.name == ORACLE:
            style = {"color": _GREEN, "linestyle": "--", "label": "knowing the future"}
        else:
            colour = _BLUES.get(kind.quantile or 0.9, _BLUE)
            style = {"color": colour, "linewidth": 1.8, "label": kind.words,
                     "linestyle": "-." if kind.peaks else "-"}  # fmt: skip
        hours = [point.outcome.pod_hours for point in points]
        minutes = [point.outcome.violation_minutes for point in points]
        axes.plot(hours, minutes, marker="o", markersize=3.5, **style)  # type: ignore[arg-type]
        drawn += points
    base = found.baseline
    axes.axvspan(0, base.outcome.pod_hours, color=_GREEN, alpha=0.05, linewidth=0)
    axes.axvline(base.outcome.pod_hours, color=_GREY, linestyle=":", linewidth=1)
    hours = sorted(point.outcome.pod_hours for point in drawn if point.kind.name != CPU)
    axes.set_xlim(hours[0] * 0.97, min(hours[-1], 1.9 * base.outcome.pod_hours))
    seen = [p.outcome.violation_minutes for p in drawn if p.outcome.pod_hours >= hours[0]]
    axes.set_yscale("symlog", linthresh=10)
    axes.set_ylim(0, 1.6 * max(*seen, 10.0))
    ticks = [0, 2, 5, *(step * 10**power for power in range(1, 7) for step in (1, 3))]
    axes.set_yticks([tick for tick in ticks if tick <= 1.6 * max(*seen, 10.0)])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("pod-hours over the replay  (further left is cheaper; shaded: no dearer than "
                    "plain HPA)")  # fmt: skip
    axes.set_ylabel("minutes with more load than\nready capacity  (lower is better)")
    axes.set_title(
        f"What each policy costs and misses in {found.days:.1f} days. Along a line the target rises"
        " from right to left;\nq90: the load stays below the forecast 9 times in 10; "
        "means and peaks are those of five minutes", loc="left", fontsize=11, color=_INK,
    )  # fmt: skip
    _mark(axes, base, _RED, f"plain HPA at {base.target:.0%}", 0.42)
    if found.better is not None:
        _mark(axes, found.better, _BLUE, f"recommended: {found.better.kind.words},\n"
              f"target {found.better.target:.0%}", 0.16)  # fmt: skip
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    _quiet(axes)


def _mark(axes: "Axes", point: Point, colour: str, text: str, height: float) -> None:
    """A ring around a point, and its text beside the axes, where it hides nothing."""
    at = (point.outcome.pod_hours, point.outcome.violation_minutes)
    axes.plot(*at, marker="o", markersize=11, markerfacecolor="none", markeredgecolor=colour,
              markeredgewidth=2.2, zorder=5)  # fmt: skip
    axes.annotate(
        f"{text}\n{at[1]:,.0f} min, {at[0]:,.0f} pod-hours", at,
        xytext=(1.012, height), textcoords="axes fraction", va="center", annotation_clip=False,
        fontsize=10, color=colour, fontweight="bold",
        arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.4, "linewidth": 0.9}, zorder=6,
        bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip


def _worst_hours(axes: "Axes", found: Frontier, workload: Workload, hours: float = 12.0) -> None:
    """Load and ready capacity in the half day in which plain HPA misses most."""
    load = found.demand
    capacity = found.traced.ready * workload.capacity
    width = min(len(load), round(hours * 3600 / SYNC_SECONDS))
    missed = np.nan_to_num(load - capacity[:, 0]).clip(min=0.0)
    hour = min(len(load), round(3600 / SYNC_SECONDS))
    sums = np.concatenate(([0.0], np.cumsum(missed)))
    worst = int(np.argmax(sums[hour:] - sums[:-hour]))
    begin = min(max(0, worst + hour // 2 - width // 2), len(load) - width)
    each = max(1, width // _POINTS)
    part = slice(begin, begin + width, each)
    times = _times(found.start + SYNC_SECONDS * np.arange(len(load))[part])
    axes.fill_between(times, load[part], color=_GREY, alpha=0.30, linewidth=0, label="load")
    names = [(0, _RED, f"ready capacity, plain HPA at {found.baseline.target:.0%}")]
    if found.better is not None:
        names.append((1, _BLUE, f"ready capacity, {found.better.kind.words}, "
                      f"target {found.better.target:.0%}"))  # fmt: skip
    for lane, colour, name in names:
        axes.plot(times, capacity[part, lane], color=colour, linewidth=1.6, label=name)
    axes.fill_between(
        times, capacity[part, 0], load[part], where=load[part] > capacity[part, 0],
        color=_RED, alpha=0.35, linewidth=0, label="load that plain HPA did not serve",
    )  # fmt: skip
    axes.set_ylim(0, None)
    axes.set_ylabel("load")
    axes.set_title(f"The {hours:.0f} hours around the one in which plain HPA misses most (UTC)",
                   loc="left", fontsize=11, color=_INK)  # fmt: skip
    axes.legend(frameon=False, fontsize=9, loc="upper left", ncols=2)
    top = float(np.nanmax(np.concatenate((load[part], capacity[part].max(axis=1)))))
    axes.set_ylim(0, 1.3 * top)
    _dates(axes)
    _quiet(axes)


def forecast_picture(
    series: Series, seen: Foresight, covered: dict[float, float], title: str
) -> "Figure":
    """History and forecast with bands, and beside it how often each band was right."""
    figure = _figure(14.0, 6.0)
    figure.suptitle(title, fontsize=15, fontweight="bold", x=0.01, ha="left", color=_INK)
    main, side = figure.subplots(1, 2, width_ratios=[4, 1])
    back = min(len(series), 3 * series.day)
    times = _times(series.start + series.step * np.arange(len(series) - back, len(series)))
    main.plot(times, series.values[-back:], color=_INK, linewidth=1.2, label="measured")
    rows = np.arange(len(seen.paths[0.5]))
    ahead = min(11, seen.paths[0.5].shape[1] - 1)
    past = _times(seen.first + seen.step * (rows + ahead))
    inside = seen.first + seen.step * (rows + ahead) <= series.end
    main.fill_between(
        past[inside],
        seen.paths[0.5][inside, ahead], seen.paths[0.95][inside, ahead],
        color=_GREEN, alpha=0.22, linewidth=0,
        label=f"what was forecast {(ahead + 1) * seen.step / 60:.0f} min before, q50 to q95",
    )  # fmt: skip
    ends = {quantile: path[-1] for quantile, path in seen.paths.items()}
    future = _times(series.end + series.step * np.arange(1, len(ends[0.5]) + 1))
    main.fill_between(future, ends[0.5], ends[0.95], color=_BLUES[0.5], alpha=0.55, linewidth=0,
                      label="forecast, q50 to q95")  # fmt: skip
    main.fill_between(future, ends[0.5], ends[0.8], color=_BLUES[0.8], alpha=0.55, linewidth=0,
                      label="forecast, q50 to q80")  # fmt: skip
    main.plot(future, ends[0.5], color=_BLUES[0.95], linewidth=1.8, label="forecast, middle (q50)")
    main.axvline(_times(np.array([series.end]))[0], color=_GREY, linestyle=":", linewidth=1.2)
    main.set_ylim(0, None)
    main.set_ylabel("load, mean of five minutes")
    main.set_title("Load and its forecast (UTC)", loc="left", fontsize=11, color=_INK)
    top = 1.3 * float(max(np.nanmax(series.values[-back:]), np.nanmax([*ends[0.95], 0.0])))
    main.set_ylim(0, top if top > 0 else 1.0)
    main.legend(frameon=False, fontsize=9, loc="upper left", ncols=2)
    _dates(main)
    _quiet(main)
    _coverage_bars(side, covered)
    return figure


def _coverage_bars(axes: "Axes", covered: dict[float, float]) -> None:
    wanted = [q for q in covered if not math.isnan(covered[q])]
    axes.barh([f"q{round(100 * q)}" for q in wanted], [covered[q] for q in wanted],
              color=[_BLUES.get(q, _BLUE) for q in wanted], height=0.55)  # fmt: skip
    for row, quantile in enumerate(wanted):
        axes.plot([quantile] * 2, [row - 0.42, row + 0.42], color=_RED, linewidth=2.2)
        axes.text(0.03, row, f"{covered[quantile]:.0%}", va="center", fontsize=10,
                  color="white" if quantile > 0.8 else _INK, fontweight="bold")  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.set_title("How often the load\nstayed below, up to an\nhour ahead (red: promised)",
                   loc="left", fontsize=11, color=_INK)  # fmt: skip
    _quiet(axes)


def png(figure: "Figure") -> bytes:
    """The figure as PNG."""
    out = BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def svg(figure: "Figure") -> str:
    """The figure as an `svg` element, the same bytes for the same figure."""
    import matplotlib as mpl

    out = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "healer",
                         "font.family": "sans-serif"}):  # fmt: skip
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _times(seconds: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.datetime64]:
    return (seconds * 1e6).astype("datetime64[us]")


def _dates(axes: "Axes") -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    shown = ConciseDateFormatter(locator, tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(shown)
    axes.margins(x=0)


def _quiet(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)
