"""Episodes and runs: what happens, why, and a person's answer."""

from typing import Any

import click

from healer.cli.output import (
    age,
    clock,
    console,
    machine,
    output_option,
    pick,
    plain,
    table,
    word,
)
from healer.cli.remote import Remote, asks_daemon, me, part
from healer.domain.episode import EpisodeState
from healer.errors import Conflict

_episode = click.argument("episode")
_note = click.option("--note", default="", help="A word for the journal.")


@click.command()
@asks_daemon
@output_option
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*EpisodeState]),
    help="Only these states; may be repeated.",
)
@click.option("--all", "closed_too", is_flag=True, help="Closed ones too.")
@click.option("--playbook", default=None, help="Only this playbook's.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.argument("text", required=False)
def episodes(
    remote: Remote,
    output: str,
    states: tuple[str, ...],
    closed_too: bool,
    playbook: str | None,
    limit: int,
    text: str | None,
) -> None:  # fmt: skip
    """List episodes, newest first; TEXT is part of an id, alert name or target."""
    if not states and not closed_too:
        states = tuple(state for state in EpisodeState if state is not EpisodeState.CLOSED)
    value = remote.get("/v1/episodes", state=states or None, playbook=playbook, q=text, limit=limit)
    if machine(value, output):
        return
    now = remote.get("/v1/status")["now"]
    table(
        ["episode", "alert", "state", "reason", "playbook", "target", "opened", "detail"],
        [
            [one["id"], one["labels"].get("alertname", "?"),
             *pick(one, "state", "reason", "playbook", "target"),
             age(one["opened_at"], now), one["detail"]]
            for one in value["episodes"]
        ],
        "No episodes.",
    )  # fmt: skip


@click.command()
@asks_daemon
@output_option
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.argument("episode", required=False)
def runs(remote: Remote, output: str, limit: int, episode: str | None) -> None:
    """List runs with their steps, newest first; of one EPISODE when named."""
    value = remote.get("/v1/runs", episode=episode, limit=limit)
    if machine(value, output):
        return
    now = remote.get("/v1/status")["now"]
    table(
        ["run", "playbook", "target", "phase", "result", "reason", "started", "steps"],
        [
            [one["id"], one["plan"]["playbook"], _ref(one["plan"]["target"]),
             *pick(one, "phase", "result", "reason"), age(one["started_at"], now), _steps(one)]
            for one in value["runs"]
        ],
        "No runs.",
    )  # fmt: skip


def _ref(target: dict[str, Any]) -> str:
    place = f"{target['namespace']}/" if target.get("namespace") else ""
    return f"{target['kind']}/{place}{target['name']}"


def _steps(run: dict[str, Any]) -> str:
    actions = [step["action"] for step in run["plan"]["steps"]]
    return ", ".join(
        f"{'undo ' if one['undo'] else ''}{actions[one['step']]}: {one['outcome'] or 'open'}"
        for one in run["steps"]
    )


@click.command()
@asks_daemon
@output_option
@_episode
def explain(remote: Remote, output: str, episode: str) -> None:
    """Why healer acted on EPISODE, why it did not, what it waits for and until when."""
    value = remote.get(f"/v1/episodes/{part(episode)}")
    if machine(value, output):
        return
    show(value["explanation"], value["episode"], remote.get("/v1/status")["now"])


def show(told: dict[str, Any], episode: dict[str, Any], now: float) -> None:
    """One explanation as one screen."""
    out = console()
    out.print(word(told["headline"]), style="bold")
    labels = ", ".join(f"{key}={value}" for key, value in sorted(episode["labels"].items()))
    rows: list[tuple[str, str]] = [
        ("episode", f"{told['episode_id']}  {episode['state']}"),
        ("alert", labels),
        ("opened", f"{clock(episode['opened_at'])} UTC, {age(episode['opened_at'], now)} ago"),
    ]
    if told["reason"]:
        rows.append(("reason", f"{told['reason']}: {told['meaning']}"))
        rows.append(("you can", told["remedy"]))
    for wait in told["waits"]:
        until = f" (until {clock(wait['until'])} UTC)" if wait["until"] else ""
        rows.append(("waits for", f"{wait['reason']}: {wait['detail']}{until}"))
    if told["queue_place"]:
        rows.append(("queue", f"place {told['queue_place']}"))
    if told["playbook"]:
        rows.append(("playbook", f"{told['playbook']} on {told['target'] or '?'}"))
    for number, rung in enumerate(told["rungs"], 1):
        rows.append((f"step {number}", f"{rung['action']} {rung['target']}: {rung['standing']}"))
    if told["answerable"]:
        rows.append(("plan", told["plan_digest"][:12]))
        rows.append(("answer", f"healer approve {told['episode_id']}  |  healer reject …"))
    for name, text in rows:
        out.print(f"  {name:<10}", word(text), sep="", soft_wrap=True)
    if told["moments"]:
        out.print("  history")
        for moment in told["moments"][-20:]:
            out.print(
                "    ", word(f"{clock(moment['at'])}  {moment['text']}"), sep="", soft_wrap=True
            )


def _answer(
    remote: Remote, episode: str, plan: str | None, note: str, yes: bool, verb: str
) -> None:
    value = remote.get(f"/v1/episodes/{part(episode)}")
    told = value["explanation"]
    if not told["answerable"]:
        raise Conflict(
            f"{told['episode_id']} is {value['episode']['state']}: no plan of it waits for an "
            "answer; see `healer explain`"
        )
    if plan is None:
        plan = str(told["plan_digest"])
        show(told, value["episode"], remote.get("/v1/status")["now"])
        if not yes:
            click.confirm(f"\n{verb} this plan?", abort=True, err=True)
    done = remote.post(
        f"/v1/episodes/{part(told['episode_id'])}/{verb}", {"plan": plan, "by": me(), "note": note}
    )
    past = "approved" if done["approved"] else "rejected"
    click.echo(f"{past} plan {done['plan'][:12]} of {done['episode']} as {plain(done['by'])}")


_plan = click.option("--plan", help="Answer only this plan: its digest, 12 digits or more.")
_yes = click.option("-y", "--yes", is_flag=True, help="Answer the plan that waits, unseen.")


@click.command()
@asks_daemon
@_episode
@_plan
@_yes
@_note
def approve(remote: Remote, episode: str, plan: str | None, yes: bool, note: str) -> None:
    """Say yes to the plan that waits; it is shown first, and only this plan is approved."""
    _answer(remote, episode, plan, note, yes, "approve")


@click.command()
@asks_daemon
@_episode
@_plan
@_yes
@_note
def reject(remote: Remote, episode: str, plan: str | None, yes: bool, note: str) -> None:
    """Say no to the plan that waits."""
    _answer(remote, episode, plan, note, yes, "reject")


@click.command()
@asks_daemon
@_episode
@_note
def ack(remote: Remote, episode: str, note: str) -> None:
    """Close an escalated or settled EPISODE: a person has dealt with it."""
    done = remote.post(f"/v1/episodes/{part(episode)}/acknowledge", {"by": me(), "note": note})
    click.echo(f"{done['episode']} is closed by {plain(done['by'])}")


COMMANDS = (episodes, runs, explain, approve, reject, ack)
