"""Demand, forecast and recommendation for the HorizontalPodAutoscaler."""
