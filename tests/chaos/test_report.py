"""The report: self-contained, complete, and with the control run beside each experiment."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chaos.campaign import Campaign, Result
from chaos.catalogue import load
from chaos.course import Course, read
from chaos.report import summary, table, write
from chaos.site import HealerAccess, Site
from chaos.verdict import judge, not_run
from tests.chaos.recorded import journal

SITE = Site(
    context="staging", namespace="chaos", prometheus="http://p.invalid",
    healer=HealerAccess(url="http://h.invalid"),
)  # fmt: skip


@pytest.fixture
def campaign() -> Campaign:
    """Two that ran, one that is void, one that could not run."""
    it = Campaign(SITE, 1_800_000_000.0, 1_800_000_100.0)
    for one in load(only=["crash-loop", "kill-pods", "hang", "node-gone"]):
        if one.name == "node-gone":
            it.results.append(Result(one, not_run("not possible here: <hooks.kill_node>")))
            continue
        if one.name == "hang":
            course = Course(broken="fault: Refused: nobody <allowed> it")
            it.results.append(Result(one, judge(one.claim, course, None), course))
            continue
        healing, control = (read(journal(one.name, run)) for run in ("healing", "control"))
        verdict = judge(one.claim, healing, control)
        it.results.append(Result(one, verdict, healing, control))
    return it


def test_the_page_needs_nothing_else(campaign: Campaign, tmp_path: Path) -> None:
    """The HTML fetches nothing and runs nothing; every experiment has its section."""
    write(campaign, tmp_path)
    page = (tmp_path / "index.html").read_text()
    for word in ("<script", "src=", "<link", "url(", "@import", "http://", "https://"):
        assert word not in page, word
    for result in campaign.results:
        assert f'id="{result.experiment.name}"' in page
    assert "&lt;hooks.kill_node&gt;" in page
    assert "nobody &lt;allowed&gt; it" in page
    assert "healer paused" in page


def test_its_drawings_are_well_formed(campaign: Campaign, tmp_path: Path) -> None:
    """Each timeline is XML by itself, with two lanes and marks within its frame."""
    write(campaign, tmp_path)
    page = (tmp_path / "index.html").read_text()
    drawings = [f"<svg{part.split('</svg>')[0]}</svg>" for part in page.split("<svg")[1:]]
    assert len(drawings) == 2
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        texts = [text.text for text in root.iter("text")]
        assert {"with healer", "healer paused", "fault", "returned"} <= set(texts)
        for text in root.iter("text"):
            assert 0 <= float(text.attrib["x"]) <= 1000


def test_the_json_holds_both_runs(campaign: Campaign, tmp_path: Path) -> None:
    """Machines find verdict, times of both runs and the samples behind them."""
    write(campaign, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    crash = next(one for one in content["experiments"] if one["name"] == "crash-loop")
    assert crash["verdict"]["times"]["returned"] is not None
    assert crash["verdict"]["control"]["returned"] is None
    assert any(well is False for _, well in crash["healing"])
    assert all(well is False for _, well in crash["control"][8:])
    assert content["summary"] == summary(campaign)


def test_the_numbers_count_every_experiment_once(campaign: Campaign) -> None:
    """Passed, failed, void and not run add up; with a void one it is not ok."""
    numbers = summary(campaign)
    assert (numbers["passed"], numbers["void"], numbers["not_run"]) == (2, 1, 1)
    parts = ("passed", "failed", "void", "not_run")
    assert sum(numbers[part] for part in parts) == numbers["experiments"]
    assert numbers["ok"] is False
    campaign.results = [one for one in campaign.results if one.verdict.status != "void"]
    assert summary(campaign)["ok"] is True
    campaign.results = [one for one in campaign.results if one.verdict.status == "not run"]
    assert summary(campaign)["ok"] is False


def test_the_table_has_a_row_for_each(campaign: Campaign) -> None:
    """The terminal shows every experiment, what did not run included."""
    rows = table(campaign).splitlines()[2:]
    assert [row.split()[0] for row in rows] == [r.experiment.name for r in campaign.results]
