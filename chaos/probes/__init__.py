"""Probes for the Chaos Toolkit: they look and change nothing."""
