"""What is measured of each request: metrics, traces, logs, drift."""
