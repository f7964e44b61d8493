"""Forecasts of demand: a pool of cheap models, weighed by backtest, with honest quantiles."""
