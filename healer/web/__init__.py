"""What healer serves: the webhook, the API for people, health and metrics. Decides nothing."""
