"""How often is the word "improved" wrong, and how often is it said when it is true?  `python benchmarks/verdict.py`

When nothing was gained the word should fall in at most 2.5 % of runs (5 % on skewed differences made to fool it), and
the 95 % interval should cover the truth in at least 94 %. Binary rewards and two-valued differences are enumerated
exactly; graded rewards are simulated with a fixed seed. Beside our interval stand Student's t, and t with
pseudo-observations (Agresti & Min 2005). About 20 seconds on one core.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from functools import cache
from itertools import product
from statistics import NormalDist

from agentlightning.trainer.evaluation import probability_below

TAIL = 0.025
RATES = (0.1, 0.3, 0.5, 0.7, 0.9)
CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
Sides = tuple[bool, bool]
"""Does the interval lie wholly above, wholly below the true difference?"""


def ours(differences: list[float], truth: float) -> Sides:
    below = probability_below(differences, truth)
    return below < TAIL, below > 1 - TAIL


def student(differences: list[float], truth: float, pseudo: int = 0) -> Sides:
    """t interval; `pseudo=1` adds half an observation at each end of the range and one at zero."""
    n = len(differences) + 2 * pseudo
    mean = sum(differences) / n
    variance = (sum(d * d for d in differences) + pseudo - n * mean * mean) / (n - 1)
    half = t_quantile(n - 1) * math.sqrt(max(variance, 0.0) / n)
    return mean - half > truth, mean + half < truth


def agresti_min(differences: list[float], truth: float) -> Sides:
    return student(differences, truth, pseudo=1)


METHODS = {"ours": ours, "t + pseudo": agresti_min, "t": student}


@cache
def t_quantile(degrees: int) -> float:
    """The 97.5 % point, by Simpson's rule on the density and bisection."""

    def upper_half(t: float) -> float:
        steps = 400
        scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
        weights = [1, *[4 if k % 2 else 2 for k in range(1, steps)], 1]
        points = [(k * t / steps) ** 2 / degrees for k in range(steps + 1)]
        density = (math.exp(scale - (degrees + 1) / 2 * math.log1p(x)) for x in points)
        return sum(w * d for w, d in zip(weights, density, strict=True)) * t / steps / 3

    low, high = 1.9, 13.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if upper_half(middle) < 0.5 - TAIL else (low, middle)
    return low


@cache
def binary_sides(method: str, wins: int, losses: int, n: int, truth: float) -> Sides:
    return METHODS[method]([1.0] * wins + [-1.0] * losses + [0.0] * (n - wins - losses), truth)


def binary_outcomes(n: int, p_win: float, p_loss: float) -> Iterator[tuple[int, int, float]]:
    """(wins, losses, probability) of every outcome that matters."""
    for wins in range(n + 1):
        for losses in range(n + 1 - wins):
            ties = n - wins - losses
            log = math.lgamma(n + 1) - sum(math.lgamma(k + 1) for k in (wins, losses, ties))
            counts = ((wins, p_win), (losses, p_loss), (ties, 1 - p_win - p_loss))
            log += sum(k * math.log(max(p, 1e-300)) for k, p in counts)
            if (probability := math.exp(log)) > 1e-7:
                yield wins, losses, probability


def binary_errors(method: str, n: int, before: float, after: float, correlation: float) -> tuple[float, float, float]:
    """(above truth, below truth, above zero) for two correlated coins."""
    spread = math.sqrt(before * (1 - before) * after * (1 - after))
    both = min(before, after, before * after + correlation * spread)
    above = below = claimed = 0.0
    for wins, losses, probability in binary_outcomes(n, after - both, before - both):
        sides = binary_sides(method, wins, losses, n, round(after - before, 9))
        above += probability * sides[0]
        below += probability * sides[1]
        claimed += probability * binary_sides(method, wins, losses, n, 0.0)[0]
    return above, below, claimed


@cache
def graded_levels(rate: float) -> tuple[float, ...]:
    """Where a standard normal is cut into the rewards 0, ¼, ½, ¾, 1 (four coins, so the mean is `rate`)."""
    total, cuts = 0.0, []
    for k in range(4):
        total += math.comb(4, k) * rate**k * (1 - rate) ** (4 - k)
        cuts.append(NormalDist().inv_cdf(total))
    return tuple(cuts)


def graded_differences(draw: random.Random, n: int, before: float, after: float, correlation: float) -> list[float]:
    shared, own = math.sqrt(correlation), math.sqrt(1 - correlation)
    result: list[float] = []
    for _ in range(n):
        task = draw.gauss()
        rewards = [
            sum(shared * task + own * noise > cut for cut in graded_levels(rate)) / 4
            for rate, noise in ((before, draw.gauss()), (after, draw.gauss()))
        ]
        result.append(rewards[1] - rewards[0])
    return result


def skewed_error(method: str, n: int, gain: float, loss: float) -> float:
    """Nothing gained on average: `gain` nearly everywhere, paid for by a rare `loss`."""
    rate = gain / (gain + loss)
    return sum(
        math.comb(n, k) * rate**k * (1 - rate) ** (n - k)
        for k in range(n + 1)
        if METHODS[method]([gain] * (n - k) + [-loss] * k, 0.0)[0]
    )


def row(label: str, cells: list[str]) -> None:
    print(f"{label:>26} " + " ".join(f"{cell:>12}" for cell in cells), flush=True)


def print_errors_header() -> None:
    row("", [name for name in METHODS for _ in range(2)])
    row("tasks", ["'improved'", "coverage"] * len(METHODS))


def print_binary() -> None:
    print("\nBinary rewards, exact; base rates 0.1 to 0.9, correlations 0 to 0.9. Worst case over the grid.")
    print_errors_header()
    grid = [(b, a, c) for b, a, c in product(RATES, RATES, CORRELATIONS) if a >= b]
    for n in (6, 8, 10, 12, 15, 20, 30, 50, 100):
        cells: list[str] = []
        for method in METHODS:
            errors = {cell: binary_errors(method, n, *cell) for cell in grid}
            wrong = max(error[2] for (before, after, _), error in errors.items() if before == after)
            cells += [f"{wrong:.1%}", f"{min(1 - e[0] - e[1] for e in errors.values()):.1%}"]
        row(str(n), cells)


def print_graded() -> None:
    print("\nGraded rewards (0, ¼, ½, ¾, 1), simulated; the same grid, pooled.")
    print_errors_header()
    draw = random.Random(20250)
    for n, repeats in ((6, 500), (10, 500), (20, 400), (50, 200), (100, 100), (200, 60)):
        wrong, covered, num_null, num_all = dict.fromkeys(METHODS, 0), dict.fromkeys(METHODS, 0), 0, 0
        for before, change, correlation in product(RATES, (0.0, 0.0, 0.09), CORRELATIONS):
            for _ in range(repeats):
                differences = graded_differences(draw, n, before, before + change, correlation)
                num_all += 1
                num_null += change == 0
                for name, method in METHODS.items():
                    sides = method(differences, change)
                    wrong[name] += change == 0 and sides[0]
                    covered[name] += not any(sides)
        row(str(n), [c for m in METHODS for c in (f"{wrong[m] / num_null:.1%}", f"{covered[m] / num_all:.1%}")])


def print_skewed() -> None:
    print("\nA small gain nearly everywhere paid for by a rare large loss, exact: 'improved' is said in")
    row("gain, loss (worst n ≤ 200)", list(METHODS))
    sizes = (6, 8, 10, 15, 20, 30, 50, 60, 80, 100, 150, 200)
    for gain, loss in ((0.02, 1.0), (0.05, 1.0), (0.1, 1.0), (0.25, 1.0), (0.25, 0.5), (0.05, 0.25)):
        worst = [max(skewed_error(method, n, gain, loss) for n in sizes) for method in METHODS]
        row(f"+{gain:g}, −{loss:g}", [f"{value:.1%}" for value in worst])


def print_power() -> None:
    print("\nA true improvement, binary rewards, correlation 0.5, exact: 'improved' is said in")
    row("tasks", ["0.4 → 0.6", "0.5 → 0.8", "0.1 → 0.4", "t + pseudo:", "0.4 → 0.6", "0.5 → 0.8", "0.1 → 0.4"])
    changes = ((0.4, 0.6), (0.5, 0.8), (0.1, 0.4))
    for n in (6, 10, 20, 30, 50, 100):
        cells = [[f"{binary_errors(m, n, *c, 0.5)[2]:.0%}" for c in changes] for m in ("ours", "t + pseudo")]
        row(str(n), [*cells[0], "", *cells[1]])


if __name__ == "__main__":
    started = time.perf_counter()
    for section in (print_binary, print_skewed, print_power, print_graded):
        section()
    print(f"\n{time.perf_counter() - started:.0f} s")
