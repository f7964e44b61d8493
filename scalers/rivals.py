"""Two scalers of one workload fight over its replicas: one of them is refused."""

from scalers.policy import Mode, ScalingPolicy
from scalers.ports import Reason, Refused, Scaler, Standing


def rivals(policy: ScalingPolicy, standing: Standing) -> Refused | None:
    """Why the policy's metric must not be served; None: it is the only one to steer by.

    In shadow mode the workload's one scaler may steer by anything: that is what the policy is
    compared with. In active mode it must read the policy's metric.
    """
    # What KEDA makes for a ScaledObject is that ScaledObject.
    scalers = [one for one in standing.scalers if not one.owner.startswith("ScaledObject ")]
    if len(scalers) > 1:
        names = " and ".join(f"{one.kind} {one.name}" for one in scalers)
        told = f"{names} both set the replicas of {policy.workload}; delete all but one"
        return Refused(Reason.RIVALS, told)
    if policy.mode is Mode.ACTIVE and scalers and not _reads(policy, scalers[0]):
        one = scalers[0]
        told = (
            f"{one.kind} {one.name} sets the replicas of {policy.workload} without the metric "
            f"{policy.metric}; let it read that, or delete it"
        )
        return Refused(Reason.RIVALS, told)
    return None


def _reads(policy: ScalingPolicy, scaler: Scaler) -> bool:
    if scaler.kind == "ScaledObject":
        # Its HPA names metrics in KEDA's own way; the trigger's URL ends with ours.
        return any(url.rstrip("/").endswith(f"/{policy.metric}") for url in scaler.metrics)
    return policy.metric in scaler.metrics
