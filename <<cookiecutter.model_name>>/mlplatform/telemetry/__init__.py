"""What every package reports about itself: metrics to Datadog's agent, logs, and the registry of all metrics."""
