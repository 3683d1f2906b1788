"""The documentation of the metrics: `python -m telemetry > deploy/datadog/METRICS.md`."""

from telemetry.registry import COMMON_TAGS, table

if __name__ == "__main__":
    print("# Metrics\n")
    print(f"Made by `python -m telemetry` from telemetry/registry.py. All carry {', '.join(COMMON_TAGS)}.\n")
    print(table(), end="")
