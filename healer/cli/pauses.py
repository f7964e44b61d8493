"""Stopping and going on, breakers, and how the daemon is."""

import click

from healer.cli.output import age, clock, machine, output_option, plain, table
from healer.cli.remote import Remote, asks_daemon, me, part
from healer.errors import ConfigError
from healer.kernel.durations import parse_duration


@click.command()
@asks_daemon
@output_option
def pauses(remote: Remote, output: str) -> None:
    """List what is paused, by whom and why."""
    value = remote.get("/v1/pauses")
    if machine(value, output):
        return
    table(
        ["pause", "scope", "reason", "by", "since", "until"],
        [
            [one["id"], _scope(one), one["reason"], one["by"], clock(one["at"]),
             clock(one["until"]) or "ended by a person"]
            for one in value["pauses"]
        ],
        "Nothing is paused.",
    )  # fmt: skip


def _scope(pause: dict[str, str]) -> str:
    parts = [f"{name} {pause[name]}" for name in ("namespace", "playbook") if pause[name]]
    return " and ".join(parts) or "everything"


@click.command()
@asks_daemon
@click.argument("reason")
@click.option("-n", "--namespace", default="", help="Only what is in this namespace.")
@click.option("--playbook", default="", help="Only this playbook.")
@click.option("--for", "duration", help="End by itself after this long, e.g. 2h; else a person.")
def pause(remote: Remote, reason: str, namespace: str, playbook: str, duration: str | None) -> None:
    """Stop acting, for REASON. Without a scope everything stops; it lasts over restarts."""
    seconds = None
    if duration is not None:
        try:
            seconds = parse_duration(duration)
        except ValueError as error:
            raise ConfigError(f"--for: {error}") from error
    body = {"reason": reason, "by": me(), "namespace": namespace, "playbook": playbook}
    made = remote.post("/v1/pauses", {**body, "seconds": seconds})["pause"]
    until = f" until {clock(made['until'])} UTC" if made["until"] else ""
    click.echo(f"{made['id']}: {plain(_scope(made))} is paused{until}")


@click.command()
@asks_daemon
@click.argument("pause_ids", metavar="[PAUSE]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="End every pause.")
def resume(remote: Remote, pause_ids: tuple[str, ...], everything: bool) -> None:
    """End pauses by their ids; `healer pauses` lists them."""
    if everything:
        pause_ids = tuple(one["id"] for one in remote.get("/v1/pauses")["pauses"])
    elif not pause_ids:
        raise click.UsageError("name the pauses to end, or give --all")
    for pause_id in pause_ids:
        remote.delete(f"/v1/pauses/{part(pause_id)}", by=me())
        click.echo(f"{plain(pause_id)} has ended")


@click.command("breaker-reset")
@asks_daemon
@click.argument("playbook")
@click.option("--note", default="", help="A word for the journal.")
def breaker_reset(remote: Remote, playbook: str, note: str) -> None:
    """Vouch for PLAYBOOK again, after its breaker opened."""
    done = remote.post(f"/v1/breakers/{part(playbook)}/reset", {"by": me(), "note": note})
    click.echo(f"the breaker of {plain(done['playbook'])} is reset by {plain(done['by'])}")


@click.command()
@asks_daemon
@output_option
def status(remote: Remote, output: str) -> None:
    """How the daemon is; exit code 1 when a person should mend something."""
    value = remote.get("/v1/status")
    wrong = [*value["conditions"], *value["stalled"]]
    if not machine(value, output):
        up = age(value["started_at"], value["now"])
        dry = ", dry run" if value.get("dry_run") else ""
        click.echo(f"healer {value['version']}, up {up}, {value['playbooks']} playbooks{dry}")
        if not value.get("leads", True):
            click.echo(f"  follows: {plain(value['leader']) or 'nobody known'} leads")
        for name, count in sorted(value["counts"].items()):
            if count and not name.startswith("fact_"):
                click.echo(f"  {name}: {count}")
        for one in value["pauses"]:
            click.echo(f"  paused: {plain(_scope(one))}, {plain(one['reason'])}")
        for one in value["conditions"]:
            click.echo(f"  wrong: {one['name']} ({one['count']}x): {plain(one['detail'])}")
        for name, late in value["stalled"].items():
            click.echo(f"  wrong: loop {name} is {late:.0f} s late")
    raise SystemExit(1 if wrong else 0)


COMMANDS = (pauses, pause, resume, breaker_reset, status)
