"""Playbooks: validate, test, schema, rbac, and those that the daemon has loaded."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from healer.cli.output import machine, output_option, pick, plain, table
from healer.cli.remote import Remote, asks_daemon
from healer.errors import ConfigError

if TYPE_CHECKING:
    from healer.cases import CaseReport

_paths = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))


@click.command()
@_paths
@output_option
def validate(paths: tuple[Path, ...], output: str) -> None:
    """Check playbook files and folders; every fault with file:line:column and what to do."""
    from healer.playbook_yaml import PlaybookSetError, load_paths
    from healer.playbook_yaml.registry import shipped_registry

    try:
        found = load_paths(paths, shipped_registry())
    except PlaybookSetError as error:
        faults = [
            {"file": e.path, "line": e.line, "column": e.column, "problem": e.problem}
            for e in error.errors
        ]
        if not machine({"valid": False, "faults": faults, "warnings": []}, output):
            click.echo("\n".join(plain(one) for one in error.errors), err=True)
            click.echo(f"faults: {len(faults)}", err=True)
        raise SystemExit(2) from error
    names = [playbook.name for playbook in found.playbooks]
    warnings = list(found.warnings)
    if machine({"valid": True, "playbooks": names, "faults": [], "warnings": warnings}, output):
        return
    for warning in warnings:
        click.echo(f"warning: {plain(warning)}", err=True)
    click.echo(f"{len(names)} playbooks are valid: {', '.join(names)}")


@click.command()
@_paths
@output_option
def test(paths: tuple[Path, ...], output: str) -> None:
    """Run the cases that are written beside playbooks: what would be done for this alert?"""
    from healer.cases import run_cases
    from healer.playbook_yaml.registry import shipped_registry

    report = run_cases(paths, shipped_registry())
    raise SystemExit(_report(report, output))


def _report(report: "CaseReport", output: str) -> int:
    """Print what failed; 0 when every case holds."""
    value = {
        "passed": report.passed,
        "playbooks": report.playbooks,
        "cases": report.cases,
        "untested": list(report.untested),
        "failures": [asdict(one) for one in report.failures],
    }
    if not machine(value, output):
        for one in report.failures:
            click.echo(f"FAIL {one}")
        for name in report.untested:
            click.echo(f"warning: playbook {name} has no case", err=True)
        click.echo(
            f"{report.cases} cases of {report.playbooks} playbooks, {len(report.failures)} failures"
        )
    return 0 if report.passed else 1


@click.command()
def schema() -> None:
    """Print the JSON Schema of a playbook, for editors and CI."""
    from healer.playbook_yaml.schema import schema_text

    click.echo(schema_text(), nl=False)


@click.command()
@asks_daemon
@output_option
def playbooks(remote: Remote, output: str) -> None:
    """List the playbooks that the daemon has loaded."""
    value = remote.get("/v1/playbooks")
    if machine(value, output):
        return
    table(
        ["name", "mode", "priority", "trigger", "steps", "summary"],
        [
            [*pick(one, "name", "mode", "priority", "trigger"), ", ".join(one["steps"]),
             one["summary"]]
            for one in value["playbooks"]
        ],
        "The daemon has no playbook loaded.",
    )  # fmt: skip


@click.command()
@_paths
@click.option(
    "-n",
    "--namespace",
    "namespaces",
    multiple=True,
    help="Grant in these namespaces only, by Roles; may be repeated.",
)
@click.option("--service-account", default="healer", show_default=True, help="Who gets the rights.")
@click.option("--account-namespace", default="healer", show_default=True, help="Where it lives.")
def rbac(
    paths: tuple[Path, ...],
    namespaces: tuple[str, ...],
    service_account: str,
    account_namespace: str,
) -> None:  # fmt: skip
    """Print the exact rights that these playbooks need, as YAML to apply."""
    import yaml

    from healer.cli.rights import manifests, needed
    from healer.playbook_yaml import load_paths
    from healer.playbook_yaml.registry import shipped_registry

    registry = shipped_registry()
    found = load_paths(paths, registry).playbooks
    if not found:
        raise ConfigError("there is no playbook at these paths; name files or folders with some")
    documents = manifests(needed(found, registry), namespaces, service_account, account_namespace)
    click.echo(yaml.safe_dump_all(documents, sort_keys=False), nl=False)


COMMANDS = (validate, test, schema, playbooks, rbac)
