"""Fakes and builders that ship with healer, so that others can test their playbooks and add-ons.

Each fake passes the same contract suite as the real thing it stands for (`tests/contract`).
"""
