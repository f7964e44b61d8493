"""The journal on disk: one Store port, one package for each engine."""
