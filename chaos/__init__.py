"""Experiments that break things on purpose and demand "deviate, then return".

A black box: nothing of `healer` or `scalers` is imported here. What healer did is read from its
HTTP API, from Prometheus and from the API server, as anybody could.
"""
