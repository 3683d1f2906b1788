"""The documentation of the metrics: `python -m mlplatform.telemetry > deploy/datadog/METRICS.md`."""

from mlplatform.telemetry.registry import COMMON_TAGS, table

if __name__ == "__main__":
    print("# Metrics\n")
    print("Made by `python -m mlplatform.telemetry` from mlplatform/telemetry/registry.py.")
    print(f"All carry {', '.join(COMMON_TAGS)}.\n")
    print(table(), end="")
