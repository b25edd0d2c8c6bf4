"""The demo that trains weights, over several seeds: held-out success before and after, interval, stages, CPU-seconds.

    python -m benchmarks.demo_story                  # five seeds, about three minutes each on two quiet cores
    python -m benchmarks.demo_story --seeds 7 8

A seed decides tasks, order, sampling and learning; the model that ships is the same for all. Every run is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time

from agentlightning.demo.sql import story
from agentlightning.trainer.result import TrainingResult


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    finals: list[float] = []
    print("| seed | before | after APO, SFT, RL (validation) | after (held-out) | 95 % interval | CPU-s | wall s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for seed in parser.parse_args().seeds:
        wall, cpu = time.perf_counter(), time.process_time()
        result = run(seed)
        spent = f"{time.process_time() - cpu:.0f} | {time.perf_counter() - wall:.0f}"
        low, high = result.interval or (float("nan"), float("nan"))
        print(
            f"| {seed} | {result.baseline:.3f} | {stages(result)} | {result.final:.3f} | "
            f"{low:+.2f} to {high:+.2f} | {spent} |",
            flush=True,
        )
        finals.append(result.final or 0.0)
    print(f"\nmedian {statistics.median(finals):.3f}, lowest {min(finals):.3f}")


def run(seed: int) -> TrainingResult:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return story.tell(output=folder, seed=seed)


def stages(result: TrainingResult) -> str:
    """The best validation mean that each stage was accepted with."""
    best: dict[str, float] = {}
    for entry in result.history:
        if entry.decision == "accepted" and entry.validation_mean is not None:
            best[entry.stage] = max(best.get(entry.stage, 0.0), entry.validation_mean)
    return " → ".join(f"{mean:.2f}" for _, mean in sorted(best.items())) or "none"


if __name__ == "__main__":
    main()
