"""The report of a campaign: JSON for machines, a page for people, a table for the terminal."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaos.campaign import Campaign, Result
from chaos.page import page
from chaos.verdict import Times


def write(campaign: Campaign, folder: Path) -> None:
    """Write report.json and index.html into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = as_json(campaign)
    (folder / "report.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / "index.html").write_text(page(content))


def summary(campaign: Campaign) -> dict[str, Any]:
    """The numbers, and `ok`."""
    statuses = [one.verdict.status for one in campaign.results]
    outcomes = [one.verdict.outcome for one in campaign.results]
    credits_ = [one.verdict.credit for one in campaign.results]
    return {
        "experiments": len(statuses),
        "passed": statuses.count("passed"),
        "failed": statuses.count("failed"),
        "void": statuses.count("void"),
        "not_run": statuses.count("not run"),
        "healed": outcomes.count("healed"),
        "not_healed": outcomes.count("not healed"),
        "credit_healer": credits_.count("healer"),
        "credit_kubernetes": credits_.count("kubernetes"),
        "seconds": round(campaign.ended_at - campaign.began_at, 1),
        "ok": campaign.ok,
    }


def as_json(campaign: Campaign) -> dict[str, Any]:
    """Everything the page shows."""
    return {
        "began": datetime.fromtimestamp(campaign.began_at, UTC).isoformat(timespec="seconds"),
        "context": campaign.site.context,
        "namespace": campaign.site.namespace,
        "summary": summary(campaign),
        "experiments": [_one(result) for result in campaign.results],
    }


def _one(result: Result) -> dict[str, Any]:
    experiment, verdict = result.experiment, result.verdict
    return {
        "name": experiment.name,
        "title": experiment.title,
        "description": experiment.content.get("description", ""),
        "claim": experiment.claim.model_dump(mode="json"),
        "verdict": asdict(verdict),
        "healing": _samples(result.healing),
        "control": _samples(result.control),
    }


def _samples(course: Any) -> list[list[Any]]:
    """The looks at the steady state, seconds after the fault."""
    if course is None or course.fault_at is None:
        return []
    return [[round(one.at - course.fault_at, 2), one.well] for one in course.samples]


def table(campaign: Campaign) -> str:
    """The table for the terminal."""
    heads = ("experiment", "verdict", "credit", "deviated", "alert", "action", "returned",
             "control returned", "actions")  # fmt: skip
    rows = [heads]
    for result in campaign.results:
        verdict = result.verdict
        beside = verdict.control or Times()
        times = verdict.times
        rows.append((
            result.experiment.name, verdict.status, verdict.credit, _s(times.deviated),
            _s(times.alert, "-"), _s(times.action, "-"), _s(times.returned),
            _s(beside.returned) if verdict.control else "", str(len(verdict.actions)),
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _s(seconds: float | None, missing: str = "never") -> str:
    return missing if seconds is None else f"{seconds:.1f} s"
