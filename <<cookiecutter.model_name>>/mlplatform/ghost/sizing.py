"""What the ghost would need as the live model: requests, limits and the autoscaler's target, with reasons."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mlplatform.ghost.observed import Side, Usage

# A host records six samples of ten seconds a minute: half an hour of one host, or less of several.
MINIMUM_SAMPLES = 180
# Beyond 60 % the latency's tail grows before the average is full; below 30 % most of what is paid for idles.
HIGHEST_TARGET = 0.6
LOWEST_TARGET = 0.3
MEMORY_MARGIN = 1.25
CPU_STEP = 0.25
MEMORY_STEP = 64 << 20


@dataclass(frozen=True)
class Used:
    """Quantiles of what one host used: cores over ten seconds, bytes of memory; and CPU milliseconds per request."""

    samples: int
    hosts: int
    requests_per_second: float
    cpu: dict[str, float]
    memory: dict[str, float]
    cpu_ms_per_request: float | None


@dataclass(frozen=True)
class Sizing:
    """A suggestion for one pod, or why there is none. cpu: cores, request and limit; memory: bytes, likewise; target:
    of the autoscaler, share of the request.
    """

    ghost: Used | None
    live: Used | None
    missing: str = ""
    cpu: float | None = None
    memory: int | None = None
    target: float | None = None
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return asdict(self)


def used(samples: Sequence[Usage]) -> Used | None:
    """Quantiles over the samples of all hosts; None without any."""
    if not samples:
        return None
    cores = np.array([sample.cpu_seconds / sample.seconds for sample in samples])
    memory = np.array([sample.memory_bytes for sample in samples])
    requests = sum(sample.requests for sample in samples)
    hosts = len({sample.host for sample in samples})
    seconds = sum(sample.seconds for sample in samples)
    return Used(
        samples=len(samples),
        hosts=hosts,
        requests_per_second=round(requests / seconds, 3),
        cpu=_quantiles(cores),
        memory=_quantiles(memory),
        cpu_ms_per_request=round(1000 * sum(sample.cpu_seconds for sample in samples) / requests, 4)
        if requests
        else None,
    )


def suggest(ghost: Side, live: Side | None, minimum: int = MINIMUM_SAMPLES) -> Sizing:
    """What one pod of the ghost would need with the live service's share of traffic.

    CPU request and limit are the same, so that the quota the threads are counted from, the autoscaler's base and what
    is reserved are one number. CPU: p95 over ten seconds, times how much more a live pod is asked, divided by the
    target. Target: 60 %, or less where bursts (p99 / p50) would not fit into what it leaves. Memory: the highest seen
    and a quarter.
    """
    mine, theirs = used(ghost.usage), used(live.usage) if live else None
    if mine is None or mine.samples < minimum:
        have = mine.samples if mine else 0
        missing = f"{have} samples of CPU and memory, of ten seconds each; a suggestion takes {minimum}"
        return Sizing(mine, theirs, missing)
    share = 1.0
    reasons = []
    if theirs and theirs.requests_per_second > mine.requests_per_second > 0:
        share = theirs.requests_per_second / mine.requests_per_second
        reasons.append(
            f"a live pod answers {theirs.requests_per_second:.3g} requests/s and a ghost pod "
            f"{mine.requests_per_second:.3g}: its CPU is taken times {share:.3g}, as if every request cost the same"
        )
    bursts = mine.cpu["p99"] / max(mine.cpu["p50"], 1e-6)
    target = min(HIGHEST_TARGET, max(LOWEST_TARGET, math.floor(20 / bursts) / 20))
    reasons.append(
        f"target {target:.0%}: p99 of CPU is {bursts:.2g} times its median, "
        + ("which fits into the rest" if target == HIGHEST_TARGET else "so more has to be left for bursts")
    )
    wanted = mine.cpu["p95"] * share / target
    cpu = max(CPU_STEP, math.ceil(wanted / CPU_STEP - 1e-9) * CPU_STEP)
    reasons.append(
        f"CPU {cpu:g}: p95 of {mine.cpu['p95']:.3g} cores{f' x {share:.3g}' if share > 1 else ''} / {target:.0%} = "
        f"{wanted:.3g}, rounded up to quarters; request and limit are the same, as threads are counted from the limit"
    )
    highest = mine.memory["max"]
    memory = math.ceil(highest * MEMORY_MARGIN / MEMORY_STEP) * MEMORY_STEP
    reasons.append(
        f"memory {memory >> 20} Mi: the highest seen, {highest / 2**20:.0f} Mi, and a quarter, rounded up to 64 Mi; "
        "beyond its limit a pod is killed"
    )
    return Sizing(mine, theirs, "", cpu, memory, target, tuple(reasons))


def _quantiles(values: "np.typing.NDArray[np.float64]") -> dict[str, float]:
    quantiles = np.quantile(values, [0.5, 0.95, 0.99, 1])
    return {name: round(float(value), 4) for name, value in zip(("p50", "p95", "p99", "max"), quantiles, strict=True)}
