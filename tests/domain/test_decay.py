"""How long an alert outlives its cause, on expressions of public mixins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healer.domain.decay import MAX_SECONDS, MIN_SECONDS, UNKNOWN_LOOKBACK, verification_window
from healer.domain.promql import lookback, tokens

M, H, D = 60.0, 3600.0, 86400.0

#: (where it is from, expression, seconds)
EXPRESSIONS = [
    (
        "kubernetes-mixin KubePodCrashLooping",
        'max_over_time(kube_pod_container_status_waiting_reason{reason="CrashLoopBackOff", '
        'job="kube-state-metrics"}[5m]) >= 1',
        5 * M,
    ),
    (
        "kubernetes-mixin KubePodNotReady",
        "sum by (namespace, pod, cluster) (max by(namespace, pod, cluster) (kube_pod_status_phase{"
        'phase=~"Pending|Unknown"}) * on(namespace, pod, cluster) group_left(owner_kind) '
        "topk by(namespace, pod, cluster) (1, max by(namespace, pod, owner_kind, cluster) "
        '(kube_pod_owner{owner_kind!="Job"}))) > 0',
        0,
    ),
    (
        "kubernetes-mixin KubeDeploymentReplicasMismatch",
        '((kube_deployment_spec_replicas{job="k"} > kube_deployment_status_replicas_available'
        '{job="k"}) and (changes(kube_deployment_status_replicas_updated{job="k"}[10m]) == 0))',
        10 * M,
    ),
    (
        "kubernetes-mixin KubePersistentVolumeFillingUp",
        "(kubelet_volume_stats_available_bytes / kubelet_volume_stats_capacity_bytes) < 0.15 and "
        "kubelet_volume_stats_used_bytes > 0 and predict_linear("
        "kubelet_volume_stats_available_bytes[6h], 4 * 24 * 3600) < 0 unless on(cluster, namespace,"
        ' persistentvolumeclaim) kube_persistentvolumeclaim_access_mode{access_mode="ReadOnly'
        'Many"} == 1',
        6 * H,
    ),
    (
        "kubernetes-mixin KubeAPIErrorBudgetBurn",
        "sum by(cluster) (apiserver_request:burnrate1h) > (14.40 * 0.01000)\nand on(cluster)\n"
        "sum by(cluster) (apiserver_request:burnrate5m) > (14.40 * 0.01000)",
        5 * M,
    ),
    (
        "sloth, two pairs of windows",
        '(max(slo:sli_error:ratio_rate5m{sloth_id="a"} > (14.4 * 0.01)) without (sloth_window) '
        'and max(slo:sli_error:ratio_rate1h{sloth_id="a"} > (14.4 * 0.01)) without (sloth_window))'
        ' or (max(slo:sli_error:ratio_rate30m{sloth_id="a"} > (6 * 0.01)) without (sloth_window) '
        'and max(slo:sli_error:ratio_rate6h{sloth_id="a"} > (6 * 0.01)) without (sloth_window))',
        30 * M,
    ),
    (
        "node-exporter-mixin NodeRAIDDegraded",
        'node_md_disks_required{device=~"(/dev/)?(mmcblk.p.+|md.+)"} - ignoring (state) '
        '(node_md_disks{state="active"}) > 0',
        0,
    ),
    (
        "node-exporter-mixin NodeNetworkReceiveErrs",
        'rate(node_network_receive_errs_total{job="node"}[2m]) / '
        "rate(node_network_receive_packets_total[2m]) > 0.01",
        2 * M,
    ),
    (
        "prometheus-mixin PrometheusErrorSendingAlertsToSomeAlertmanagers",
        "(rate(prometheus_notifications_errors_total[5m]) / "
        "rate(prometheus_notifications_sent_total[15m])) * 100 > 1",
        15 * M,
    ),
    ("awesome-prometheus-alerts OOM", "increase(oom[1m] offset 10m) > 0", 11 * M),
    ("subquery over a rate", "max_over_time(rate(x[5m])[1h:1m]) > 1", 65 * M),
    ("subquery with default step", "avg_over_time((a / b)[30m:]) > 1", 30 * M),
    ("offsets", "max_over_time(rate(x[5m] offset 10m)[1h:] offset 1d) > 1", D + 75 * M),
    ("subquery over an aggregation", "max_over_time(sum(rate(x[5m])) by (a)[1h:1m]) > 1", 65 * M),
    ("negative offset", "rate(x[5m] offset -10m) > 0", 0),
    ("a range before what looks ahead", "rate(x[15m] offset -10m) > 0", 5 * M),
    ("pinned to a time", "rate(x[15m] @ 1609746000) > 0", 0),
    ("pinned to now", "rate(x[15m] @ end() offset 5m) > 0", 20 * M),
    ("combined units", "rate(x[1h30m]) > 0", 90 * M),
    ("seconds as a number", "rate(x[300]) > 0 and y offset 0x3c", 5 * M),
    ("one week ago", "x / x offset 1w < 0.5", 7 * D),
    ("a window in a label value", 'x{path="/a[5d]", q=\'offset 3d\', r=`[1y]`} > 0', 0),
    ("a quote in a label value", r'rate(x{a="\"[9d]"}[2m]) > 0', 2 * M),
    ("a window in a comment", "x > 0 # rate(x[5d])\n and y > 1", 0),
    ("a window in grouping labels", "sum by (offset, rate5m) (x) > 0", 0),
    ("UTF-8 name", '{"http.requests", path="/"}[5m]', 5 * M),
    ("nothing after unless", "rate(a[5m]) > 0 unless rate(b[30m]) > 0", 30 * M),
    ("unless of the same shape", "rate(a[5m]) > 0 unless rate(a[30m]) > 0", 30 * M),
    ("and of two conditions", "rate(a[5m]) > 0 and rate(b[30m]) > 0", 30 * M),
    ("and of unlike filters", 'rate(a{x="1"}[5m]) > 0 and rate(a{x="2"}[30m]) > 0', 30 * M),
    ("and of two windows", "rate(a[5m]) > 1 and rate(a[30m]) > 1", 5 * M),
    ("absent", 'absent(up{job="x"} == 1)', 0),
    ("arguments", 'label_replace(rate(x[5m]), "a", "$1", "b", "(.*)") > bool 1', 5 * M),
    ("a name that begins with a colon", ":node_memory:sum{} < 1 or rate(:a:b[5m]) > 0", 5 * M),
    ("unary minus and power", "-x ^ -rate(y[10m]) > 0", 10 * M),
    ("plain number", "1", 0),
]  # fmt: skip


@pytest.mark.parametrize(("expr", "seconds"), [case[1:] for case in EXPRESSIONS],
                         ids=[case[0] for case in EXPRESSIONS])  # fmt: skip
def test_an_expression_looks_back_as_far_as_its_windows_add_up(expr: str, seconds: float) -> None:
    """Ranges, subqueries and offsets add up along one operand, and the longest operand counts."""
    assert lookback(expr).seconds == seconds


@pytest.mark.parametrize(
    "expr",
    ["", "   # only a comment", "rate(x[5m]", "x)", "x[", 'x{a="b}', "rate(x[5m)]", "x[$__range]",
     "x[]", "x offset y", "a b", "and", "x and", "(" * 200 + ")" * 200, "x" * 70_000],
)  # fmt: skip
def test_an_unreadable_expression_is_refused(expr: str) -> None:
    """What cannot be read raises ValueError instead of a number that would be a guess."""
    with pytest.raises(ValueError, match=r"\w"):
        lookback(expr)


def test_the_window_is_the_sum_of_what_delays_the_end() -> None:
    """Scrape, lookback, evaluation, keep_firing_for and settling add up, and each is explained."""
    window = verification_window("rate(errors_total[15m]) > 0", 300.0, 30.0, scrape_seconds=15.0)
    assert window.seconds == 15 + 900 + 30 + (300 + 30) + 30
    for part in ("15m (lookback: errors_total[15m])", "5m30s (keep_firing_for)", "15s (scrape)"):
        assert part in window.explanation


def test_for_never_lengthens_the_window() -> None:
    """`for` delays only the start of an alert, so it moves the relapse time and not the window."""
    short = verification_window("up == 0", for_seconds=0.0)
    long = verification_window("up == 0", for_seconds=900.0)
    assert long.seconds == short.seconds
    assert long.relapse_seconds == short.relapse_seconds + 900


def test_an_unknown_rule_gets_a_usual_window_and_says_so() -> None:
    """Without a rule, or with an unreadable one, a usual window is taken and the text says why."""
    for expr, word in ((None, "not known"), ("rate(x[", "not understood")):
        window = verification_window(expr)
        assert window.seconds == UNKNOWN_LOOKBACK + 60 + 60 + 30
        assert word in window.explanation


def test_the_window_is_bounded() -> None:
    """No window is shorter than a minute or longer than two hours, and a cut is told."""
    short = verification_window("x > 0", 0.0, 1.0, scrape_seconds=1.0, settle_seconds=0.0)
    assert (short.seconds, "at least 1m" in short.explanation) == (MIN_SECONDS, True)
    long = verification_window("rate(x[1w]) > 0")
    assert (long.seconds, "at most 2h" in long.explanation) == (MAX_SECONDS, True)


@given(st.text(alphabet="ab15m[](){}:@,>-+\"'`#\n offset and or unless", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text is, reading it ends in a finite number of seconds or in ValueError."""
    try:
        found = lookback(text)
    except ValueError:
        return
    assert 0 <= found.seconds < float("inf")


def test_tokens_hold_no_text_that_could_leave_its_parentheses() -> None:
    """A text that closes a bracket it did not open is refused."""
    with pytest.raises(ValueError, match="closes nothing"):
        tokens("up) or (down")
    assert [kind for kind, _ in tokens('up{a=")"} # )')] == [
        "word", "open", "word", "operator", "string", "close",
    ]  # fmt: skip
