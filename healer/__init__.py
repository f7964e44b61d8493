"""healer heals Kubernetes workloads: once, for a stated reason, and looks whether it helped."""

__version__ = "0.1.0"
