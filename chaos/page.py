"""The report as one HTML page that needs nothing else: no script, no font, no picture to fetch."""

from html import escape
from typing import Any

from chaos.drawing import timeline

_STYLE = """
:root{--ink:#1d2733;--soft:#5b6878;--line:#dde3ea;--bad:#c8372d;--good:#2e7d4f;--paper:#fff}
*{box-sizing:border-box}
body{margin:0;background:#f3f5f8;color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:25px;margin:0 0 4px}h2{font-size:18px;margin:0}
p{margin:6px 0}.soft{color:var(--soft)}
.tiles{display:flex;flex-wrap:wrap;gap:10px;margin:18px 0}
.tile{background:var(--paper);border:1px solid var(--line);border-radius:8px;
padding:8px 16px;min-width:104px}
.tile b{display:block;font-size:24px;line-height:1.25}
section{background:var(--paper);border:1px solid var(--line);border-radius:8px;
padding:16px 18px;margin:14px 0}
.head{display:flex;flex-wrap:wrap;gap:10px;align-items:center}
.tag{border-radius:99px;padding:1px 11px;font-size:13px;font-weight:600;color:#fff;
background:#6b7785}
.passed{background:var(--good)}.failed{background:var(--bad)}.void{background:#b5730c}
table{border-collapse:collapse;width:100%;margin-top:8px;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:4px 8px;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600;color:var(--soft);font-size:13px}
th:first-child,td:first-child{text-align:left}
.scroll{overflow-x:auto}ul{margin:8px 0 0;padding-left:20px}
.problems li{color:var(--bad)}.remarks li{color:var(--soft);font-size:13px}
svg{display:block;width:100%;height:auto;margin-top:10px}
.legend{display:flex;flex-wrap:wrap;gap:16px;font-size:13px;color:var(--soft)}
.legend i{display:inline-block;width:14px;height:10px;border-radius:2px;margin-right:5px}
a{color:#2259a8}
"""
_CREDIT = {
    "healer": "credit: healer",
    "kubernetes": "credit: Kubernetes",
    "nobody": "credit: nobody",
    "not examined": "credit: not examined",
}
_COLUMNS = ("deviated", "alert", "held", "released", "action", "killed", "returned")


def page(content: dict[str, Any]) -> str:
    """The whole page."""
    numbers = content["summary"]
    tiles = "".join(
        f'<div class="tile"><b>{numbers[key]}</b>{text}</div>'
        for key, text in (
            ("experiments", "experiments"), ("passed", "passed"), ("failed", "failed"),
            ("void", "void"), ("not_run", "not run"), ("credit_healer", "healed by healer"),
            ("credit_kubernetes", "healed by Kubernetes"),
        )
    )  # fmt: skip
    sections = "\n".join(_section(one) for one in content["experiments"])
    minutes = numbers["seconds"] / 60
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Chaos report</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><main>
<h1>What was broken, and who healed it</h1>
<p class="soft">{escape(content["began"])} · context {escape(content["context"])} · namespace
{escape(content["namespace"])} · {minutes:.1f} minutes</p>
<div class="tiles">{tiles}</div>
<p>Each experiment breaks something twice: once with healer at work, once with healer paused (the
<b>control run</b>). It <b>passes</b> only if the steady state was seen to break, the alert came in
time, healer did exactly what was due and nothing else, and all was well again in time and stayed
so. If the control run got well too, the credit is Kubernetes'. <b>Void</b> means that the run shows
nothing, for instance because nothing broke.</p>
<div class="legend"><span><i style="background:#79b791"></i>well</span>
<span><i style="background:#d9776f"></i>not well</span>
<span><i style="background:#c9d0d8"></i>could not be asked</span>
<span>all times in seconds after the fault</span></div>
{_overview(content["experiments"])}
{sections}
</main></body></html>
"""


def _overview(experiments: list[dict[str, Any]]) -> str:
    heads = "".join(
        f"<th>{text}</th>"
        for text in ("experiment", "verdict", "credit", "deviated", "alert", "first action",
                     "returned", "control returned", "actions")
    )  # fmt: skip
    rows = []
    for one in experiments:
        verdict, times = one["verdict"], one["verdict"]["times"]
        beside = verdict["control"]
        cells = [
            f'<a href="#{escape(one["name"])}">{escape(one["name"])}</a>', verdict["status"],
            verdict["credit"], *(_s(times[key]) for key in ("deviated", "alert", "action")),
            _s(times["returned"], _never(times)),
            _s(beside["returned"], _never(beside)) if beside else "-", str(len(verdict["actions"])),
        ]  # fmt: skip
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        f'<section class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></section>"
    )


def _section(one: dict[str, Any]) -> str:
    verdict, claim = one["verdict"], one["claim"]
    status = verdict["status"]
    tag = f'<span class="tag {status.replace(" ", "-")}">{status}</span>'
    credit = (
        "" if status == "not run" else f'<span class="soft">{_CREDIT[verdict["credit"]]}</span>'
    )
    parts = [
        f'<section id="{escape(one["name"])}"><div class="head"><h2>{escape(one["title"])}</h2>',
        f"{tag}{credit}</div>",
        f"<p>{escape(claim['fault'])} <span class='soft'>{escape(claim['demands'])}</span></p>",
        _list("problems", verdict["problems"]),
    ]
    if status != "not run":
        lanes = [("with healer", one["healing"], verdict["times"])]
        if verdict["control"]:
            lanes.append(("healer paused", one["control"], verdict["control"]))
        parts.append(timeline(lanes))
        parts.append(_times(lanes))
        if verdict["actions"]:
            done = ", ".join(escape(text) for text in verdict["actions"])
            parts.append(f"<p class='soft'>healer did: {done}</p>")
    parts += [_list("remarks", verdict["remarks"]), "</section>"]
    return "\n".join(part for part in parts if part)


def _times(lanes: list[tuple[str, Any, dict[str, Any]]]) -> str:
    used = [key for key in _COLUMNS if any(times[key] is not None for _, _, times in lanes)]
    used += [] if "returned" in used else ["returned"]
    heads = "".join(f"<th>{key}</th>" for key in ("", *used))
    rows = "".join(
        f"<tr><td>{name}</td>"
        + "".join(
            f"<td>{_s(times[key], _never(times) if key == 'returned' else '-')}</td>"
            for key in used
        )
        + "</tr>"
        for name, _, times in lanes
    )
    return f'<div class="scroll"><table><tr>{heads}</tr>{rows}</table></div>'


def _list(kind: str, items: list[str]) -> str:
    if not items:
        return ""
    return f'<ul class="{kind}">' + "".join(f"<li>{escape(i)}</li>" for i in items) + "</ul>"


def _never(times: dict[str, Any]) -> str:
    """What stands for "did not come back": nothing, where nothing ran."""
    return "-" if times["ended"] is None else "never"


def _s(seconds: float | None, missing: str = "-") -> str:
    return missing if seconds is None else f"{seconds:.1f} s"
