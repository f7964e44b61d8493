"""Every fault of a playbook file is told with its exact line and column, and all at once."""

import pytest

from healer.playbook_yaml import PlaybookSetError, Registry, parse

FILE = "replace-pod.yaml"


def faults(text: str, registry: Registry) -> list[str]:
    with pytest.raises(PlaybookSetError) as caught:
        parse(text, registry, FILE)
    return [str(error) for error in caught.value.errors]


# what to replace, by what, then every fault as line:column and a part of its text
TABLE = {
    "unknown key": ("cooldown: 15m", "coldown: 15m", [("15:5", "did you mean 'cooldown'?")]),
    "missing key": (
        "  summary: Delete one pod that keeps crashing.\n",
        "",
        [("5:1", "lacks the key 'summary'")],
    ),
    "unknown action": ("delete_pod", "delete_pods", [("23:15", "did you mean 'delete_pod'?")]),
    "unknown parameter": ("grace: 10s", "grase: 10s", [("24:14", "did you mean 'grace'?")]),
    "parameter of wrong kind": ("grace: 10s", "grace: soon", [("24:21", "not a duration")]),
    "unknown probe": (
        "alert_resolved: {}",
        "alert_resolve: {}",
        [("28:13", "did you mean 'alert_resolved'?")],
    ),
    "unknown probe parameter": (
        "alert_resolved: {}",
        "alert_resolved: {x: 1}",
        [("28:30", "unknown key 'x'")],
    ),
    "two probes in one": (
        "- alert_resolved: {}",
        "- {alert_resolved: {}, workload_ready: {}}",
        [("28:13", "split it")],
    ),
    "no probes": (
        "          - alert_resolved: {}",
        "          []",
        [("28:11", "at least 1 items, has 0")],
    ),
    "bad duration": ("15m", "15", [("15:15", "15 has no unit; write 15s")]),
    "bad rate": ("3/1h", "3 an hour", [("16:22", "no rate; write for example 3/1h")]),
    "unknown budget": ("{owner: 3/1h}", "{owners: 3/1h}", [("16:15", "did you mean 'owner'?")]),
    "bad ratio": ("50%", "150%", [("17:17", "write 55% or 0.55")]),
    "mode yes": ("approve", "yes", [("7:9", "'yes' is not possible")]),
    "broken matchers": (
        '{alertname="KubePodCrashLooping",',
        '{alertname="KubePodCrashLooping";',
        [("9:12", "a comma is missing")],
    ),
    "matchers that accept all": (
        'alertname="KubePodCrashLooping", ',
        "",
        [("9:12", "would match almost everything")],
    ),
    "two triggers": (
        "  when:\n",
        "  when:\n    query: {expr: up == 0}\n",
        [("8:3", "exactly one of alert, query, condition")],
    ),
    "no trigger": (
        """    alert: '{alertname="KubePodCrashLooping", namespace!~"kube-.*"}'""",
        "    {}",
        [("8:3", "found none")],
    ),
    "broken CEL": (
        "labels.namespace ==",
        "labels.namespace = =",
        [("20:15", "not a CEL expression")],
    ),
    "CEL of the unknown": ("if: pods.", "if: podz.", [("36:11", "CEL knows no podz")]),
    "unless without language": (
        "cel: 'labels.namespace == \"frozen\"', ",
        "",
        [("20:9", "exactly one of promql, cel")],
    ),
    "placeholder in action": (
        "action: delete_pod",
        "action: ${labels.do}",
        [("23:15", "cannot stand in action")],
    ),
    "placeholder in CEL": (
        '"frozen"',
        '"${labels.x}"',
        [("20:15", "would let a label write code")],
    ),
    "placeholder in PromQL": (
        "backup_running ==",
        'backup{n="${labels.n}"} ==',
        [("19:18", "would let a label write code")],
    ),
    "placeholder in a matcher": (
        '"KubePodCrashLooping"',
        '"${labels.x}"',
        [("9:12", "cannot stand in alert")],
    ),
    "placeholder in a key": (
        "grace: 10s",
        "'${labels.x}': 10s",
        [("24:14", "cannot be part of a key"), ("24:14", "unknown key")],
    ),
    "placeholder in a kind": (
        "    kind: Pod\n    namespace",
        "    kind: ${labels.kind}\n    namespace",
        [("11:11", "cannot stand in kind")],
    ),
    "unknown placeholder": (
        "${labels.pod}\n  guards",
        "${label.pod}\n  guards",
        [("13:11", "${label.pod} names nothing; did you mean 'labels.x'?")],
    ),
    "nested placeholder": (
        "${labels.pod}\n  guards",
        "${labels.${labels.pod}}\n  guards",
        [("13:11", "one stands in another")],
    ),
    "target of itself": (
        "${labels.pod}\n  guards",
        "${target.name}\n  guards",
        [("13:11", "not known before the target is")],
    ),
    "no namespace": (
        "    namespace: ${labels.namespace}\n    name: ${labels.pod}\n  guards",
        "    name: ${labels.pod}\n  guards",
        [("10:3", "a Pod is in a namespace")],
    ),
    "namespace of a node": (
        "    kind: Pod\n    namespace: ${labels.namespace}\n    name: ${labels.pod}\n  guards",
        "    kind: Node\n    namespace: ${labels.namespace}\n    name: ${labels.pod}\n  guards",
        [
            ("12:5", "a Node is in no namespace"),
            ("23:15", "delete_pod acts on Pod, but the target is a Node"),
        ],
    ),
    "action on another kind": ("        owner: true\n", "", [("32:15", "restart_rollout acts on")]),
    "owner kinds without owner": (
        "owner: true",
        "ownerKinds: [Deployment]",
        [("32:15", "restart_rollout acts on"), ("35:9", "without owner: true")],
    ),
    "a step's name twice": (
        "restart all",
        "replace the pod",
        [("29:13", "the step in line 22 is called")],
    ),
    "another file name": (
        "name: replace-pod",
        "name: replace-pods",
        [("4:9", "give both one name")],
    ),
    "duplicate key": (
        "  mode: approve\n",
        "  mode: approve\n  mode: auto\n",
        [("8:3", "stands already in line 7")],
    ),
    "anchor and alias": (
        "summary: Delete one pod that keeps crashing.\n",
        "summary: &a text\n  notWhen: *a\n",
        [("6:12", "the anchor &a is refused"), ("7:12", "the alias *a is refused")],
    ),
    "key that is a boolean": ("cooldown: 15m", "on: 15m", [("15:5", "is a boolean to YAML 1.1")]),
    "key that is a number": ("cooldown: 15m", "7: 15m", [("15:5", "the key '7' is not text")]),
    "two documents": (
        "    severity: critical\n",
        "    severity: critical\n---\nkind: Playbook\n",
        [("43:1", "a second document")],
    ),
    "not YAML": ("steps:", "steps", [("22:11", "not YAML")]),
    "tab": ("    cooldown", "\tcooldown", [("15:1", "not YAML")]),
    "another version": ("v1alpha1", "v1", [("1:13", "did you mean 'healer.dev/v1alpha1'?")]),
    "window without length": (
        "    cooldown: 15m",
        "    windows: [{from: '22:00', to: '22:00'}]\n    cooldown: 15m",
        [("15:35", "are the same")],
    ),
    "time that is a number": (
        "    cooldown: 15m",
        "    windows: [{from: 22, to: '23:00'}]\n    cooldown: 15m",
        [("15:22", "22 is no time of day")],
    ),
    "many at once": (
        "    cooldown: 15m\n    budgets: {owner: 3/1h}\n    minHealthy: 50%",
        "    cooldown: soon\n    budgets: {zone: x}\n    minHealthy: much",
        [("15:15", "not a duration"), ("16:21", "no rate"), ("17:17", "no ratio")],
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_each_fault_stands_at_its_line_and_column(case: str, good: str, registry: Registry) -> None:
    """A playbook broken in one way is refused with exactly these faults, each at its place."""
    old, new, expected = TABLE[case]
    assert good.count(old) >= 1
    found = faults(good.replace(old, new, 1), registry)
    for fault, (place, part) in zip(found, expected, strict=True):
        assert fault.startswith(f"{FILE}:{place}: "), fault
        assert part in fault


def test_the_good_playbook_is_read_whole(good: str, registry: Registry) -> None:
    """Every written key arrives in the domain's playbook, and every other one has its default."""
    playbook = parse(good, registry, FILE)
    assert playbook.name == "replace-pod"
    assert playbook.guards.cooldown_seconds == 900
    assert playbook.guards.budgets["owner"].count == 3
    assert playbook.guards.budgets["zone"].count == 10
    assert [condition.because for condition in playbook.guards.unless] == [
        "a backup runs",
        "it is frozen",
    ]
    assert playbook.steps[0].params == {"grace": "10s"}
    assert playbook.steps[0].verify is not None
    assert playbook.steps[0].verify.within_seconds == 300
    assert playbook.steps[1].verify is not None
    assert playbook.steps[1].verify.within_seconds is None
    assert playbook.steps[1].target is not None
    assert playbook.steps[1].target.owner
    assert playbook.text == good


def test_an_explicit_tag_is_refused(good: str, registry: Registry) -> None:
    """A tag could make another type of a value, so none is accepted."""
    text = good.replace("mode: approve", "mode: !!str approve")
    assert faults(text, registry) == [
        f"{FILE}:7:9: the tag tag:yaml.org,2002:str is refused; write a plain value"
    ]


def test_a_placeholder_may_stand_for_a_typed_parameter(good: str, registry: Registry) -> None:
    """A parameter that is filled in later is not judged before, and its neighbours are."""
    text = good.replace("{grace: 10s}", "{grace: '${labels.grace}'}")
    assert parse(text, registry, FILE).steps[0].params == {"grace": "${labels.grace}"}
    text = good.replace("{grace: 10s}", "{grace: '${labels.grace}', force: maybe}")
    assert len(faults(text, registry)) == 1


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("", "1:1", "the file is empty"),
        ("# nothing\n", "1:1", "the file is empty"),
        ("- a\n", "1:1", "a playbook is a mapping"),
        ("a: [1,\n", "2:1", "not YAML"),
        ("a: \x07\n", "1:4", "is not allowed in YAML"),
        ('a: "\\UFFFFFFFF"\n', "1:1", "not YAML"),
        ('a: "\\ud800"\n', "1:4", "a lone surrogate is no character"),
        ('"\\ud800": a\n', "1:1", "a lone surrogate is no character"),
        ("? [a]\n: b\n", "1:3", "a key must be text"),
        ("a: 0755\n", "1:4", "0755 is octal to some readers"),
        ("a: .nan\n", "1:4", "is not a finite number"),
        ("a: 1e999\n", "1:4", "is too big a number"),
        ("a: 12345678901234567890\n", "1:4", "a number of 20 digits"),
        ("<<: {a: b}\n", "1:1", "merge keys are refused"),
    ],
)  # fmt: skip
def test_text_that_is_no_playbook_at_all(
    text: str, place: str, part: str, registry: Registry
) -> None:
    """Whatever the text is, the first fault names the place where it stops making sense."""
    found = [fault for fault in faults(text, registry) if part in fault]
    assert found
    assert found[0].startswith(f"{FILE}:{place}: ")
