"""The pipeline's training loop against plain Keras on the same data: `nox -s bench_training`.

Variants run one after the other in each round, every one in a process of its own, so that what else the machine does
falls on all of them alike. Reported are medians over the rounds, and per round the ratio to plain Keras.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parent.parent / "<<cookiecutter.model_name>>"
VARIANTS = {
    "keras": "plain keras.Model.fit, Keras's defaults (XLA)",
    "keras-deterministic": "plain keras.Model.fit, deterministic operations as the pipeline uses by default",
    "off": "pipeline, no checkpoints",
    "local": "pipeline, checkpoints to a directory",
    "s3": "pipeline, checkpoints to S3 (moto on this machine)",
}


def run(variant: str, directory: Path, endpoint: str, options: argparse.Namespace) -> dict[str, float]:
    """One training; the store of checkpoints is a directory or the bucket."""
    store = "s3://benchmark/store" if variant == "s3" else "store"
    environment = {
        **os.environ,
        "PYTHONPATH": str(TEMPLATE),
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    arguments = [variant, str(options.epochs), str(options.filters), str(options.interval), store]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(HERE / "variant.py"), *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode:
        sys.exit(f"{variant} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    # The monotonic clock is one for all processes of a machine.
    found["first_step"] -= started
    return found


def main() -> None:
    """Run all rounds and print a table; the raw figures go to benchmarks/training/results.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--filters", type=int, default=96, help="size of the network")
    parser.add_argument("--interval", type=float, default=5, help="seconds between checkpoints")
    options = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    rounds: list[dict[str, dict[str, float]]] = []
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        credentials = {"aws_access_key_id": "benchmark", "aws_secret_access_key": "benchmark"}
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **credentials).create_bucket(
            Bucket="benchmark"
        )
        with tempfile.TemporaryDirectory() as temporary:
            (Path(temporary) / "service.toml").write_text('[service]\nname = "benchmark"\n')
            for number in range(options.rounds):
                rounds.append({})
                for variant in VARIANTS:
                    rounds[-1][variant] = run(variant, Path(temporary), endpoint, options)
                    seconds = rounds[-1][variant]["seconds"]
                    print(f"round {number + 1}/{options.rounds} {variant:20} {seconds:6.2f} s", flush=True)
    finally:
        server.stop()
    (HERE / "results.json").write_text(json.dumps({"options": vars(options), "rounds": rounds}, indent=1) + "\n")
    table(rounds, options.interval)


def table(rounds: list[dict[str, dict[str, float]]], interval: float) -> None:
    """Medians, and overhead against plain Keras with the same operations, per round."""
    print(f"\n{'variant':20} {'seconds':>8} {'steps/s':>8} {'overhead':>9}  {'[min, max]':18} {'first step s':>12}")
    for variant, meaning in VARIANTS.items():
        seconds = statistics.median(found[variant]["seconds"] for found in rounds)
        base = [found["keras-deterministic"]["seconds"] for found in rounds]
        ratios = [100 * (found[variant]["seconds"] / b - 1) for found, b in zip(rounds, base, strict=True)]
        spread = f"[{min(ratios):+.1f}, {max(ratios):+.1f}] %"
        first = statistics.median(found[variant]["first_step"] for found in rounds)
        rate = rounds[0][variant]["steps"] / seconds
        overhead = f"{statistics.median(ratios):+.1f} %"
        print(f"{variant:20} {seconds:8.2f} {rate:8.1f} {overhead:>9}  {spread:18} {first:12.2f}  {meaning}")
    size = rounds[0]["local"]["checkpoint_bytes"] / 1e6
    print(
        f"\noverhead: against keras-deterministic, which computes the same; "
        f"a checkpoint of {size:.1f} MB every {interval:g} s"
    )


if __name__ == "__main__":
    main()
