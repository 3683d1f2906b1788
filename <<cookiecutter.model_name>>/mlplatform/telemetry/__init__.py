"""What all rooms tell about themselves: metrics to Datadog's agent, logs, and the registry of every metric's name."""
