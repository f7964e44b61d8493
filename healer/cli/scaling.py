"""`healer scaling`: what predictive scaling would have done, before anybody trusts it."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from healer.cli.output import clock, console, machine, output_option, table
from healer.cli.scaling_policies import POLICY_COMMANDS
from healer.errors import ConfigError
from healer.kernel.clock import SystemClock
from healer.kernel.durations import parse_duration

if TYPE_CHECKING:
    from scalers.simulate.demand import Demand
    from scalers.simulate.frontier import Frontier, Point
    from scalers.simulate.plant import Workload

_F = TypeVar("_F", bound=Callable[..., Any])
#: Lines of a table: how each is marked, and its cells.
Rows = Sequence[tuple[str, Sequence[str]]]
_DAY = 86400.0
#: Without `--capacity` a pod serves such a share of the load's 99 % quantile.
_PODS_AT_P99 = 30.0
#: Days without which nothing can be forecast.
_LEAST_DAYS = 2.0
#: What skill is measured against, for people.
_YARDSTICKS = {"seasonal_naive_day": "yesterday's load", "naive": "the last value"}


@click.group()
def scaling() -> None:
    """Predictive scaling: replay the past before you trust a forecast with the future."""


class _Duration(click.ParamType[float, str | float]):
    name = "duration"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _load_options(command: _F) -> _F:
    for option in (
        click.argument("csv", required=False, type=click.Path(path_type=Path)),
        click.option("--prometheus", metavar="URL", help="Read the load from here, with --query."),
        click.option("--query", help="PromQL of the total demand, one series: sum(rate(...))."),
        click.option(
            "--days", type=float, default=15.0, show_default=True, help="Read so many from there."
        ),
        click.option("--png", type=click.Path(path_type=Path), help="Draw it into this file."),
        click.option(
            "--html", type=click.Path(path_type=Path), help="Write picture and table as one page."
        ),
    )[::-1]:
        command = option(command)
    return command


@scaling.command()
@_load_options
@click.option(
    "--replay-days", type=float, default=5.0, show_default=True,
    help="Replay the last so many days; what is before them is history to learn from.",
)  # fmt: skip
@click.option(
    "--capacity", type=float,
    help="Load one ready pod serves, in the unit of the demand. "
    "Default: a thirtieth of its 99 % quantile.",
)  # fmt: skip
@click.option("--min", "minimum", type=int, default=2, show_default=True, help="Fewest pods.")
@click.option("--max", "maximum", type=int, default=300, show_default=True, help="Most pods.")
@click.option(
    "--ready", type=_Duration(), default="5m", show_default=True,
    help="From a pod's creation until it serves.",
)  # fmt: skip
@click.option(
    "--target", type=float, default=70.0, show_default=True,
    help="Percent of capacity that plain HPA aims at: what the others are compared with.",
)  # fmt: skip
@click.option("--price", type=float, help="What one pod costs an hour, for a column of costs.")
@click.option("--all", "everything", is_flag=True, help="Print also what another point beats.")
@output_option
def simulate(
    csv: Path | None, prometheus: str | None, query: str | None, days: float, png: Path | None,
    html: Path | None, replay_days: float, capacity: float | None, minimum: int, maximum: int,
    ready: float, target: float, price: float | None, everything: bool, output: str,
) -> None:  # fmt: skip
    """Replay a load through the HPA with and without forecasts: violations against pod-hours.

    CSV has the columns time (Unix seconds) and value (total demand).
    """
    import numpy as np

    from scalers.simulate.frontier import frontier
    from scalers.simulate.plant import Workload

    with _progress("reading and replaying") as told:
        load, name = _load(csv, prometheus, query, days)
        _enough(load, replay_days, name)
        guessed = capacity is None
        if capacity is None:
            capacity = float(np.nanquantile(load.values, 0.99)) / _PODS_AT_P99
        try:
            workload = Workload(capacity, minimum, maximum, ready)
            found = frontier(
                load, workload, load.end - replay_days * _DAY,
                usual=target / 100.0, price=price, told=told,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error
    said = _said(found, workload, guessed=guessed)
    columns, rows = _rows(found, price)
    if png or html:
        from scalers.pictures import frontier_picture

        title = f"{name}: plain HPA and forecasts, pods ready after {ready / 60:g} min"
        _draw(lambda: frontier_picture(found, workload, title), png, html, title, said,
              columns, rows)  # fmt: skip
    if machine(_simulated(found, workload), output):
        return
    _printed(found, columns, rows, everything=everything)
    for line in said:
        click.echo(line)


@scaling.command()
@_load_options
@click.option(
    "--hours", type=click.FloatRange(0.25, 48), default=24.0, show_default=True,
    help="Forecast so far ahead.",
)  # fmt: skip
@click.option(
    "--judge-days", type=float, default=2.0, show_default=True,
    help="Forecast the last so many days again, to see how often it was right.",
)  # fmt: skip
@output_option
def forecast(
    csv: Path | None, prometheus: str | None, query: str | None, days: float, png: Path | None,
    html: Path | None, hours: float, judge_days: float, output: str,
) -> None:  # fmt: skip
    """Forecast a load, and say how often such forecasts were right on its own last days."""
    from scalers.forecast.ladder import next_rung
    from scalers.simulate.foresight import coverage, foresee

    with _progress("reading and forecasting") as told:
        load, name = _load(csv, prometheus, query, days)
        _enough(load, judge_days, name)
        series = load.series(peaks=False)
        steps = max(1, math.ceil(hours * 3600 / series.step))
        seen = foresee(series, load.end - judge_days * _DAY, steps, told=told)
    if seen.last is None:
        raise ConfigError(f"{name}: too little history to learn from; give more than a day")
    covered = coverage(series, seen)
    last = seen.last
    said = [
        f"Judged on the last {judge_days:g} days, up to an hour ahead: "
        + ", ".join(f"q{100 * q:.0f} held {share:.1%}" for q, share in covered.items()),
        f"Skill against {_YARDSTICKS.get(last.yardstick, last.yardstick)}: {last.skill:+.0%}"
        + (" (degraded: it would not be served)" if last.degraded else ""),
        f"Rung: {last.rung} ({next_rung(len(series), series.day)})",
        "Made by: " + ", ".join(f"{m} {w:.0%}" for m, w in sorted(
            last.members.items(), key=lambda pair: -pair[1])),
    ]  # fmt: skip
    each = max(1, round(3600 / series.step)) if steps > 24 else 1
    columns = ["until (UTC)", *(f"q{100 * q:.0f}" for q in last.quantiles)]
    rows = [
        ("", [clock(last.at + (step + 2) * last.step)[:16],
              *(_short(path[step]) for path in last.quantiles.values())])
        for step in range(each - 1, steps, each)
    ]  # fmt: skip
    if png or html:
        from scalers.pictures import forecast_picture

        title = f"{name}: load and forecast, {hours:g} hours ahead"
        _draw(lambda: forecast_picture(series, seen, covered, title), png, html, title, said,
              columns, rows)  # fmt: skip
    value = {
        "at": last.at, "step": last.step, "skill": last.skill, "degraded": last.degraded,
        "rung": last.rung.value, "yardstick": last.yardstick,
        "members": dict(last.members), "coverage": {str(q): c for q, c in covered.items()},
        "quantiles": {str(q): list(path) for q, path in last.quantiles.items()},
    }  # fmt: skip
    if machine(value, output):
        return
    table(columns, [cells for _, cells in rows], "")
    for line in said:
        click.echo(line)


def _load(
    csv: Path | None, prometheus: str | None, query: str | None, days: float
) -> tuple["Demand", str]:
    """The load, and what it is called. Raises ConfigError with the remedy."""
    from scalers.simulate.demand import LoadFileError, demand, read_csv

    if csv is not None:
        if prometheus or query:
            raise ConfigError("a CSV file and --prometheus exclude each other; give one of them")
        try:
            return read_csv(csv), csv.stem
        except LoadFileError as error:
            raise ConfigError(str(error)) from error
    if not prometheus or not query:
        raise ConfigError("no load; give a CSV file, or --prometheus URL and --query PROMQL")
    from healer.clients.prometheus_history import read_history

    end = SystemClock().now()
    samples = read_history(prometheus, query, end - days * _DAY, end)
    try:
        return demand(samples), query
    except ValueError as error:
        raise ConfigError(f"{prometheus}: {query!r}: {error}") from error


def _enough(load: "Demand", judged: float, name: str) -> None:
    """Raises ConfigError when there is nothing to learn from before what is judged."""
    have = (load.end - load.start) / _DAY
    if not judged > 0:
        raise ConfigError(f"{judged:g} days to replay; give more than none")
    if have < judged + _LEAST_DAYS:
        raise ConfigError(
            f"{name}: {have:.1f} days of load, and forecasts learn from {_LEAST_DAYS:g} days before"
            f" the {judged:g} that are replayed; give more, or replay fewer days"
        )


def _rows(found: "Frontier", price: float | None) -> tuple[list[str], Rows]:
    columns = ["policy", "target", "violation min", "unserved", "pod-hours", "of plain", "actions",
               "most pods"]  # fmt: skip
    if price is not None:
        columns.append("cost")
    base = found.baseline.outcome.pod_hours
    rows: list[tuple[str, Sequence[str]]] = []
    for point in found.points:
        out = point.outcome
        cells = [
            point.kind.words, f"{point.target:.0%}", f"{out.violation_minutes:,.1f}",
            f"{out.unserved:.2%}", f"{out.pod_hours:,.0f}", f"{out.pod_hours / base:.0%}",
            str(out.actions), str(out.highest),
        ]  # fmt: skip
        if point.cost is not None:
            cells.append(f"{point.cost:,.2f}")
        mark = "chosen" if point == found.better else "base" if point == found.baseline else ""
        rows.append((mark, cells))
    return columns, rows


def _printed(
    found: "Frontier", columns: list[str], rows: Rows, *, everything: bool
) -> None:  # fmt: skip
    """The table: of forecasts only what no other forecast beats, unless `everything` is wanted."""
    arrows = {"chosen": "<- recommended", "base": "<- plain HPA", "": ""}
    shown = set(found.points) if everything else {
        point for point in found.points if point.kind.quantile is None
    } | set(found.undominated())  # fmt: skip
    table(
        [*columns, ""],
        [
            [*cells, arrows[mark]]
            for point, (mark, cells) in zip(found.points, rows, strict=True)
            if point in shown
        ],
        "",
    )


def _said(found: "Frontier", workload: "Workload", *, guessed: bool) -> list[str]:
    base = found.baseline
    said = [
        f"Plain HPA at {base.target:.0%} missed {base.outcome.violation_minutes:,.1f} minutes in "
        f"{found.days:.1f} days ({base.outcome.unserved:.2%} of the load) with "
        f"{base.outcome.pod_hours:,.0f} pod-hours."
    ]
    better = found.better
    if better is None:
        said.append("No forecast does better for as many pod-hours: stay with plain HPA.")
    else:
        saved = 1 - better.outcome.pod_hours / base.outcome.pod_hours
        said.append(
            f"Recommended: {better.kind.words}, target {better.target:.0%} of capacity "
            f"(AverageValue {better.target * workload.capacity:.4g}): "
            f"{better.outcome.violation_minutes:,.1f} minutes missed, "
            f"{better.outcome.pod_hours:,.0f} pod-hours ({saved:.0%} fewer)."
        )
    if guessed:
        said.append(
            f"Capacity of a pod was guessed as {workload.capacity:.4g} (a thirtieth of the load's "
            "99 % quantile); give --capacity for your own."
        )
    if found.gaps > 0.001:
        said.append(f"{found.gaps:.1%} of the time was not measured and is not judged.")
    return said


def _simulated(found: "Frontier", workload: "Workload") -> dict[str, Any]:
    def told(point: "Point") -> dict[str, Any]:
        out = point.outcome
        return {
            "policy": point.kind.name, "quantile": point.kind.quantile,
            "of": None if point.kind.quantile is None else (
                "peaks" if point.kind.peaks else "means"),
            "target": point.target, "violation_minutes": out.violation_minutes,
            "unserved": out.unserved, "pod_hours": out.pod_hours, "scale_actions": out.actions,
            "most_pods": out.highest, "cost": point.cost,
        }  # fmt: skip

    return {
        "days": found.days, "gaps": found.gaps, "capacity": workload.capacity,
        "baseline": told(found.baseline),
        "recommended": None if found.better is None else told(found.better),
        "points": [told(point) for point in found.points],
    }  # fmt: skip


def _draw(
    make: Callable[[], Any], png: Path | None, html: Path | None, title: str, said: list[str],
    columns: list[str], rows: Rows,
) -> None:  # fmt: skip
    """Write the picture where it was asked for. Raises ConfigError with the remedy."""
    from scalers import pictures
    from scalers.pictures_page import page

    try:
        figure = make()
        if png:
            png.write_bytes(pictures.png(figure))
        if html:
            html.write_text(page(title, said, pictures.svg(figure), columns, rows))
    except pictures.PicturesMissingError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written ({error.strerror})") from error
    for path in (png, html):
        if path:
            click.echo(f"written: {path}", err=True)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on the terminal, on nothing else; hears the share that is done."""
    from rich.progress import Progress

    screen = console(err=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda share: progress.update(task, completed=share)


def _short(value: float) -> str:
    return f"{value:,.4g}"


for _command in POLICY_COMMANDS:
    scaling.add_command(_command)

COMMANDS = (scaling,)
