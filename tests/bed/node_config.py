"""The configuration of a node's kubelet, containerd and pod network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.bed.builds import binary
from tests.bed.certificates import Authority
from tests.bed.cluster import Options
from tests.bed.debian import debian_artefact
from tests.bed.dns import DOMAIN
from tests.bed.kubeconfig import write_kubeconfig, write_yaml

NETWORK = "10.88.0.0/16"
HUB = "10.88.0.1"
SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "localhost/pause:1"


def node_address(number: int) -> str:
    """The address of the node with that number, from 1; the hub has the one before."""
    return f"10.88.0.{number + 1}"


def tools_environment() -> dict[str, str]:
    """The environment in which containerd and kube-proxy find the unpacked programs."""
    root = debian_artefact().path() / "root"
    libraries = [str(path) for path in sorted(root.glob("usr/lib/*-linux-gnu"))]
    own = binary("containerd").parent
    path = os.environ.get("PATH", "")
    return {
        "PATH": f"{own}:{root / 'usr/sbin'}:{root / 'usr/bin'}:{path}",
        "LD_LIBRARY_PATH": ":".join(libraries),
    }


def write_pod_network(folder: Path, number: int) -> None:
    """One flat network for all pods; the hub is their way to Services.

    A pod's packets to a Service go to the hub, whose kube-proxy rewrites them, so nodes
    need no proxy of their own.
    """
    pods = {
        "type": "host-local",
        "dataDir": "/run/cni-ipam",
        "ranges": [
            [
                {
                    "subnet": NETWORK,
                    "rangeStart": f"10.88.{number}.1",
                    "rangeEnd": f"10.88.{number}.250",
                    "gateway": HUB,
                }
            ]
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": HUB}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "hairpinMode": True, "ipMasq": False}
    content = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{**bridge, "ipam": pods}]}
    (folder / "cni").mkdir(exist_ok=True)
    (folder / "cni" / "10-bridge.conflist").write_text(json.dumps(content, indent=1))


def write_containerd(folder: Path) -> Path:
    """containerd's configuration; returns its path."""
    root = debian_artefact().path() / "root"
    shim = binary("containerd-shim-runc-v2")
    path = folder / "containerd.toml"
    path.write_text(f"""\
version = 3
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = "{SOCKET}"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    runtime_path = "{shim}"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "{root}/usr/sbin/runc"
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{root}/usr/lib/cni"]
    conf_dir = "{folder}/cni"
[plugins.'io.containerd.internal.v1.opt']
  path = "{folder}/opt"
""")
    return path


def write_kubelet(
    folder: Path, number: int, name: str, options: Options, authority: Authority, server: str
) -> tuple[Path, Path]:
    """The kubelet's configuration and its kubeconfig; returns both paths."""
    address = node_address(number)
    user = f"system:node:{name}"
    authority.issue(name, user, organisation="system:nodes", names=(name,), addresses=(address,))
    kubeconfig = write_kubeconfig(folder / "kubelet.conf", server, authority, name)
    content: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "address": address,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(authority.certificate(name)),
        "tlsPrivateKeyFile": str(authority.key(name)),
        "resolvConf": "",
        "clusterDomain": DOMAIN,
        "clusterDNS": [HUB],
        "podLogsDir": str(folder / "pod-logs"),
        "volumePluginDir": str(folder / "volume-plugins"),
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "systemReserved": {
            "memory": options.reserved_memory or _others_memory(options.nodes),
            "cpu": options.reserved_cpu,
        },
        "maxPods": options.max_pods,
        # A node is lost when its lease is not renewed for `node_monitor_grace`.
        "nodeLeaseDurationSeconds": options.node_lease_seconds,
        "crashLoopBackOff": {"maxContainerRestartPeriod": options.restart_back_off_cap},
        "featureGates": {"KubeletCrashLoopBackOffMax": True, **options.feature_gates},
    }
    return write_yaml(folder / "kubelet.yaml", content), kubeconfig


def write_proxy(folder: Path, kubeconfig: Path, node: str) -> Path:
    """kube-proxy's configuration; it serves no node, and borrows the name of one."""
    content = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": node,
        "mode": "nftables",
        "clusterCIDR": NETWORK,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "nftables": {
            # Pods share one segment, so an answer would pass the hub by if the hub did
            # not put its own address on the question.
            "masqueradeAll": True,
            # A Service is reachable as soon as its pods are ready.
            "minSyncPeriod": "100ms",
        },
        # Limits of the machine, which are not ours to set.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
    return write_yaml(folder / "kube-proxy.yaml", content)


def _others_memory(nodes: int) -> str:
    """The memory of this machine that belongs to the other nodes."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{pages * (nodes - 1) // nodes >> 20}Mi"
