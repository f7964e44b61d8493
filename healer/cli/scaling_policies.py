"""Scaling policies as files: validate, the HPA that follows each, import from another adapter."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from healer.cli.output import machine, output_option, plain
from healer.errors import ConfigError

if TYPE_CHECKING:
    from scalers.policy import ScalingPolicy, Workload

_paths = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
#: Beyond such a share of its capacity a replica gets before the HPA with its tolerance looks.
_TOLERATED = 1.1


@click.command()
@_paths
@output_option
def validate(paths: tuple[Path, ...], output: str) -> None:
    """Check scaling policies, files and folders; every fault with file:line:column."""
    from healer.playbook_yaml.faults import PlaybookSetError
    from healer.scaling_yaml import load_policies

    try:
        found = load_policies(paths)
    except PlaybookSetError as error:
        faults = [
            {"file": e.path, "line": e.line, "column": e.column, "problem": e.problem}
            for e in error.errors
        ]
        if not machine({"valid": False, "faults": faults}, output):
            click.echo("\n".join(plain(one) for one in error.errors), err=True)
            click.echo(f"faults: {len(faults)}", err=True)
        raise SystemExit(2) from error
    names = [one.name for one in found]
    if not machine({"valid": True, "policies": names, "faults": []}, output):
        click.echo(f"{len(names)} scaling policies are valid: {', '.join(names)}")


@click.command()
@_paths
@click.option(
    "--capacity", type=click.FloatRange(min=0, min_open=True),
    help="Demand one replica carries, for policies that say learned.",
)  # fmt: skip
@click.option(
    "--without-tolerance", is_flag=True,
    help="For Kubernetes before 1.35, whose HPA cannot be told to look closer than a tenth: "
    "the target is lowered instead.",
)  # fmt: skip
def hpa(paths: tuple[Path, ...], capacity: float | None, without_tolerance: bool) -> None:
    """Print the HorizontalPodAutoscaler that follows each policy, as YAML to apply."""
    import yaml

    from healer.scaling_yaml import load_policies
    from scalers.hpa_object import manifest

    found = load_policies(paths)
    if not found:
        raise ConfigError("there is no scaling policy at these paths; name files or folders")
    made = [
        manifest(one, _capacity(one, capacity), tolerance_field=not without_tolerance)
        for one in found
    ]
    for one in found:
        if without_tolerance and one.utilisation * _TOLERATED > 1:
            click.echo(
                f"{one.name}: utilisation {one.utilisation:.0%} was lowered to {1 / _TOLERATED:.0%}"
                ": the HPA would not look before a replica has more than it carries", err=True,
            )  # fmt: skip
    click.echo(yaml.safe_dump_all(made, sort_keys=False), nl=False)


def _capacity(policy: "ScalingPolicy", given: float | None) -> float:
    """The policy's own, else what was given. Raises ConfigError."""
    capacity = policy.capacity or given
    if capacity is None:
        raise ConfigError(
            f"policy {policy.name}: its capacity is learned, so a target is not known yet; give "
            "--capacity, or write one into the policy"
        )
    return capacity


@click.group("import")
def bring() -> None:
    """Take over what another adapter was told."""


@bring.command("prometheus-adapter")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--workload", required=True, metavar="NAMESPACE/KIND/NAME", help="shop/Deployment/web",
)  # fmt: skip
@click.option("--metric", help="Which of the adapter's metrics, when several can be taken over.")
@click.option("--min", "minimum", type=int, default=2, show_default=True, help="Fewest replicas.")
@click.option("--max", "maximum", type=int, default=20, show_default=True, help="Most replicas.")
@click.option(
    "--capacity", type=click.FloatRange(min=0, min_open=True),
    help="Demand one replica carries.  [default: learned]",
)  # fmt: skip
def prometheus_adapter(
    file: Path, workload: str, metric: str | None, minimum: int, maximum: int,
    capacity: float | None,
) -> None:  # fmt: skip
    """Write a rule of prometheus-adapter's FILE (its config.yaml) as a scaling policy.

    The policy is printed; it is in mode shadow, so nothing is served before you promote it.
    """
    import yaml

    from healer.scaling_yaml import parse_policies
    from scalers.adapter_rules import Demand, Skipped, demands

    target = _workload(workload)
    try:
        config = yaml.safe_load(file.read_text())
        found = demands(config, target)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); name a file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: is no YAML: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
    for one in found:
        if isinstance(one, Skipped):
            click.echo(f"{file}: {one.place} is left out: {plain(one.because)}", err=True)
    able = [one for one in found if isinstance(one, Demand) and metric in {None, one.metric}]
    if len(able) != 1:
        known = ", ".join(one.metric for one in found if isinstance(one, Demand)) or "none"
        raise ConfigError(
            f"{file}: {len(able)} rules fit, and a workload has one policy; choose with --metric "
            f"(can be taken over: {known})"
        )
    policy = _policy(target, able[0].metric, able[0].query, (minimum, maximum), capacity)
    text = yaml.safe_dump(policy, sort_keys=False, width=1000)
    parse_policies([(f"the policy made of {file}", text.encode())])
    click.echo(f"# {able[0].place} of {file.name}; is it the total of {target}? Look before use.")
    click.echo(text, nl=False)


@bring.command("kube-metrics-adapter")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--namespace", help="Of HPAs that name none.")
@click.option("--metric", help="Which metric, when several of an HPA can be taken over.")
@click.option(
    "--capacity", type=click.FloatRange(min=0, min_open=True),
    help="Demand one replica carries.  [default: the HPA's AverageValue, else learned]",
)  # fmt: skip
def kube_metrics_adapter(
    file: Path, namespace: str | None, metric: str | None, capacity: float | None
) -> None:
    """Write the HPAs of FILE with kube-metrics-adapter's annotations as scaling policies.

    They are printed; they are in mode shadow, so nothing is served before you promote them. Delete
    the annotated HPA when you apply the new one: two scalers on one workload fight.
    """
    import yaml

    from healer.playbook_yaml.faults import PlaybookSetError
    from healer.playbook_yaml.yaml_text import decode, read
    from healer.scaling_yaml import parse_policies
    from scalers.hpa_annotations import imported, objects

    try:
        text = decode(file.read_bytes(), str(file))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); name a file") from error
    made: list[str] = []
    seen = 0
    for part in _documents(text):
        document = read(part, str(file))
        if document.faults:
            raise PlaybookSetError(document.faults)
        for at, hpa in objects(document.value):
            seen += 1
            try:
                found = imported(hpa, namespace)
            except ValueError as error:
                raise ConfigError(f"{file}:{document.mark(at)[0]}: {error}") from error
            for one in found.told:
                line = document.mark((*at, *one.place), key=True)[0]
                what = ".".join(str(step) for step in one.place)
                click.echo(
                    f"{file}:{line}: {plain(what)} is left out: {plain(one.because)}", err=True
                )
            able = [one for one in found.candidates if metric in {None, one.metric}]
            if len(able) != 1:
                known = ", ".join(one.metric for one in found.candidates) or "none"
                click.echo(
                    f"{file}:{document.mark(at)[0]}: {plain(found.name)} is left out: {len(able)} "
                    "of its metrics fit, and a workload has one policy; choose with --metric "
                    f"(can be taken over: {plain(known)})", err=True,
                )  # fmt: skip
                continue
            carried = capacity or able[0].capacity
            policy = _policy(
                found.workload, able[0].metric, able[0].query, (found.minimum, found.maximum),
                carried,
            )  # fmt: skip
            policy["spec"]["workload"]["apiVersion"] = found.workload.api_version
            if capacity is None and carried is not None:
                # The HPA's target is what it plans with: all of it, so that the target stays.
                policy["spec"]["utilisation"] = "100%"
            made.append(yaml.safe_dump(policy, sort_keys=False, width=1000))
    if not made:
        raise ConfigError(
            f"{file}: none of {seen} HorizontalPodAutoscalers could be taken over; give HPAs with "
            "a query of the Prometheus collector in their annotations"
        )
    parse_policies((f"policy {n} made of {file}", one.encode()) for n, one in enumerate(made, 1))
    click.echo("# Is each query the total of its workload? Look before use.")
    click.echo("---\n".join(made), nl=False)


def _documents(text: str) -> list[str]:
    """The documents of a file, each on the lines it has there."""
    parts: list[list[str]] = [[]]
    lines = text.splitlines()
    for index, line in enumerate(lines):
        if line.rstrip() == "---":
            parts.append([""] * (index + 1))
        else:
            parts[-1].append(line)
    return ["\n".join(part) + "\n" for part in parts if any(
        line.strip() and not line.lstrip().startswith("#") for line in part
    )]  # fmt: skip


def _workload(text: str) -> "Workload":
    from scalers.policy import Workload

    parts = text.split("/")
    if len(parts) != 3 or not all(parts):
        raise ConfigError(f"--workload {text!r}: write namespace/kind/name: shop/Deployment/web")
    return Workload(*parts)


def _policy(
    target: "Workload", metric: str, query: str, bounds: tuple[int, int], capacity: float | None
) -> dict[str, Any]:
    return {
        "apiVersion": "healer.dev/v1alpha1",
        "kind": "ScalingPolicy",
        "metadata": {"name": re.sub(r"[^a-z0-9-]+", "-", target.name.lower()).strip("-")},
        "spec": {
            "workload": {
                "kind": target.kind, "namespace": target.namespace, "name": target.name,
            },
            "demand": {"query": query},
            "capacity": "learned" if capacity is None else capacity,
            "replicas": {"min": bounds[0], "max": bounds[1]},
            "metric": re.sub(r"[^a-z0-9_.-]+", "_", metric.lower()),
            "mode": "shadow",
        },
    }  # fmt: skip


POLICY_COMMANDS = (validate, hpa, bring)
