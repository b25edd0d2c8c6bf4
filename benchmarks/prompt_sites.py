"""What discovery makes of prompts as people write them: the author's words found, calls never seen steered, time.

    python -m benchmarks.prompt_sites

Each world (tests/interception/prompt_worlds.py) knows which words its author wrote. Sites are learned from 8 or 24
tasks and tried on 100 others. A call is steered when the new text reached it, and everything that varies must come
through to the letter: anything else ends the benchmark.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.interception.prompt_worlds import WORLDS, World, call, prompts, share_foreign, share_found, sites_in

from agentlightning.data.resource import Policy

SEEDS = range(10)
SIZES = (8, 24)
NUM_FRESH = 100
_NEW = "Above all: be kind. "


def main() -> None:
    """Print the table: each cell is for 8 and for 24 tasks, the mean over the seeds."""
    print("| prompt | author's words found | others' words taken along | unseen calls steered | CPU ms |")
    print("|---|---|---|---|---|")
    totals: list[list[float]] = []
    for name, world in WORLDS.items():
        cells = [_means(world, size) for size in SIZES]
        totals.append([number for cell in cells for number in cell])
        print(_row(name, *cells), flush=True)
    means = [sum(column) / len(column) for column in zip(*totals, strict=True)]
    print(_row("**mean**", means[:4], means[4:]))


def _row(name: str, small: list[float], large: list[float]) -> str:
    shares = [f"{one:.0%} / {other:.0%}" for one, other in zip(small[:3], large[:3], strict=True)]
    return f"| {' | '.join([name, *shares, f'{small[3]:.0f} / {large[3]:.0f}'])} |"


def _means(world: World, size: int) -> list[float]:
    rows = [_measured(world, seed, size) for seed in SEEDS]
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]


def _measured(world: World, seed: int, size: int) -> tuple[float, float, float, float]:
    made = prompts(world, seed, size + NUM_FRESH)
    started = time.process_time()
    sites = sites_in(world, made[:size])
    milliseconds = (time.process_time() - started) * 1000
    policy = Policy()
    for site in sites:
        policy = policy.with_prompt(site, _NEW + site.template)
    texts = [(asked, "".join(parts)) for asked, parts in made[size:]]
    steered = list(_steered(policy, world, texts))
    return share_found(made, sites), share_foreign(made, sites), sum(steered) / len(steered), milliseconds


def _steered(policy: Policy, world: World, texts: list[tuple[str, str]]) -> Iterator[bool]:
    for asked, text in texts:
        sent = policy.apply(call(world, asked, text)).call.messages[0]["content"]
        if sent not in (text, _NEW + text):
            raise AssertionError(f"a steered call lost something: {sent!r}")
        yield sent != text


if __name__ == "__main__":
    main()
