"""`healer demo`: every scene happens, the same way each time, and a scene that does not is told."""

import json
from pathlib import Path
from typing import Any

from tests.cli.test_commands import healer

SCENES = ["crash-loop", "hang", "bad-rollout", "zone-outage"]


async def test_all_scenes_happen_twice_alike() -> None:
    """`demo -o json` is one object in which every scene happened, and the same the next time."""
    first, second = await healer("demo", "-o", "json"), await healer("demo", "-o", "json")
    assert first.code == 0, first.out
    assert first.out == second.out
    told = json.loads(first.out)
    assert told["simulation"] is True
    assert told["ok"] is True
    assert [scene["name"] for scene in told["scenes"]] == SCENES
    for scene in told["scenes"]:
        assert (scene["happened"], scene["missing"]) == (True, "")
        kinds = [row["what"] for row in scene["timeline"]]
        places = [kinds.index(kind) for kind in ("fault", "alert", "accepted", "intent", "effect")]
        assert places == sorted(places), scene["name"]
        assert ("closed", "recovered") in {(r["what"], r["reason"]) for r in scene["timeline"]}


async def test_a_zone_is_held_before_anything_is_touched() -> None:
    """In the zone's scene the page comes after the hold, and every effect after the page."""
    said = await healer("demo", "--scene", "zone-outage", "-o", "json")
    rows: list[dict[str, Any]] = json.loads(said.out)["scenes"][0]["timeline"]
    held = next(row["at"] for row in rows if row["reason"] == "zone_degraded")
    pages = [row["at"] for row in rows if row["what"] == "page"]
    effects = [row["at"] for row in rows if row["what"] == "effect"]
    assert len(pages) == 1
    assert len(effects) == 3
    assert held < pages[0] < min(effects)


async def test_people_read_that_it_is_a_simulation() -> None:
    """The first and the last line say that it is a simulation and name `make demo`; no colour."""
    said = await healer("demo", env={"TERM": "xterm-256color", "NO_COLOR": "1", "COLUMNS": "80"})
    assert said.code == 0
    lines = said.out.strip().splitlines()
    assert lines[0].startswith("This is a simulation")
    text = " ".join(said.out.split())
    start, end = text.split("scene 1")[0], text.rsplit("scenes happened", 1)[1]
    assert "make demo" in start
    assert "It was a simulation" in end
    assert "make demo" in end
    assert "4 of 4 scenes happened" in said.out
    assert "\x1b" not in said.out
    assert max(map(len, lines)) <= 80


async def test_a_scene_without_playbooks_does_not_happen(tmp_path: Path) -> None:
    """Without a playbook no scene happens, each says what was missing, and the exit code is 1."""
    said = await healer("demo", "--playbooks", str(tmp_path), "-o", "json")
    told = json.loads(said.out)
    assert said.code == 1
    assert told["ok"] is False
    assert [scene["happened"] for scene in told["scenes"]] == [False] * len(SCENES)
    assert all("in vain" in scene["missing"] for scene in told["scenes"])
    said = await healer("demo", "--scene", "hang", "--playbooks", str(tmp_path))
    assert said.code == 1
    assert "this scene did not happen" in said.out
    assert "no_playbook" in said.out


async def test_an_unknown_scene_is_refused() -> None:
    """A scene that does not exist ends with 2 and the names of those that do."""
    said = await healer("demo", "--scene", "flood")
    assert said.code == 2
    assert all(name in said.err for name in SCENES)
