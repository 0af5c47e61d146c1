"""Simulate comparisons whose truth is known: how often the statistics are wrong, and what they find.

Run it as ``python experiments/statistics/simulate.py``; it prints the tables of the README beside it, in shares of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from mobile_vla.compare.data.episode_errors import cluster_interval
from mobile_vla.compare.statistics.significance import LEVEL, detectable_difference, flip_p_values, holm, t_p_values

SEEDS = (3, 5, 8, 10)
SAMPLERS = (1, 10, 23)
EFFECTS = (1.0, 2.0, 4.0)
"""In standard deviations of the paired difference over seeds."""

TRIALS = 20_000
EPISODES = (10, 20, 50)
EPISODE_TRIALS = 2000
WINDOW_RESAMPLES = 400

Floats = NDArray[np.float64]
Rng = np.random.Generator
Noise = Callable[[Rng, tuple[int, ...]], Floats]

NOISES: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, size=shape),
    "Laplace": lambda rng, shape: rng.laplace(size=shape),
    "Student's t with 3 degrees of freedom": lambda rng, shape: rng.standard_t(3, size=shape),
    "lognormal": lambda rng, shape: rng.lognormal(size=shape),
    "one run in ten diverges": lambda rng, shape: rng.normal(size=shape) + 10 * (rng.random(shape) < 0.1),
    "success rate of 100 drives at 95 %": lambda rng, shape: rng.binomial(100, 0.95, size=shape) / 100,
    "two values": lambda rng, shape: rng.choice([-1.0, 1.0], size=shape) + 0.2 * rng.normal(size=shape),
}


def main() -> None:
    """Print the tables."""
    rng = np.random.default_rng(0)
    _print("No effect, normal noise", _false_wins(rng))
    _print(
        "No effect, 23 samplers with one baseline, Holm: at least one false win, by the noise of a run", _noises(rng)
    )
    _print("A true difference, normal noise: found", _power(rng))
    _print("Intervals over val episodes that cover the truth", _episodes(rng))


def differences_without_effect(rng: Rng, noise: Noise, *, num_samplers: int, num_seeds: int, trials: int) -> Floats:
    """Draw paired differences [trials, samplers, seeds] of samplers that change nothing and share one baseline."""
    return noise(rng, (trials, num_samplers, num_seeds)) - noise(rng, (trials, 1, num_seeds))


def has_false_win(differences: Floats) -> NDArray[np.bool_]:
    """Say of each comparison [trials] whether Holm over its samplers claims any difference."""
    return np.any(holm(t_p_values(differences)) < LEVEL, axis=-1)


def covers(differences: Floats, truth: float) -> NDArray[np.bool_]:
    """Say of each row of differences [..., seeds] whether its 95 % t interval holds ``truth``."""
    num = differences.shape[-1]
    half_width = stdtrit(num - 1, 0.975) * differences.std(-1, ddof=1) / num**0.5
    return np.less_equal(np.abs(differences.mean(-1) - truth), half_width)


def episode_errors(rng: Rng, *, num_episodes: int, windows: int = 30) -> Floats:
    """Draw squared errors [2 policies, episodes, windows] of two policies that are equally good.

    What is hard about an episode is hard for both, part of it for one more than for the other, and in all its windows.
    """
    shared = rng.lognormal(0, 0.6, size=(1, num_episodes, 1))
    own = rng.lognormal(0, 0.3, size=(2, num_episodes, 1))
    return shared * own * rng.lognormal(0, 0.5, size=(2, num_episodes, windows))


def window_interval(rng: Rng, squared: Floats) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the difference in RMSE that takes windows for independent: too narrow."""
    flat = squared.reshape(2, -1)
    drawn = flat[:, rng.integers(0, flat.shape[1], size=(WINDOW_RESAMPLES, flat.shape[1]))]
    one, other = np.sqrt(drawn.mean(axis=-1))
    low, high = np.quantile(one - other, [0.025, 0.975])
    return float(low), float(high)


def _false_wins(rng: Rng) -> list[list[str]]:
    header = ["seeds", "one sampler", "coverage of the interval", "sign-flip p <= 0.05", "smallest sign-flip p"]
    lines = [[*header, *(f"any of {num}, Holm" for num in SAMPLERS[1:])]]
    for num_seeds in SEEDS:
        by_family = {
            num: differences_without_effect(rng, NOISES["normal"], num_samplers=num, num_seeds=num_seeds, trials=TRIALS)
            for num in SAMPLERS
        }
        one = by_family[1][:, 0]
        found = [(t_p_values(one) < LEVEL), covers(one, 0.0), flip_p_values(one) <= LEVEL]
        families = [has_false_win(by_family[num]) for num in SAMPLERS[1:]]
        lines.append(
            [str(num_seeds), *map(_share, found), f"{2 / 2**num_seeds:.4f}", *(_share(wins) for wins in families)]
        )
    return lines


def _noises(rng: Rng) -> list[list[str]]:
    lines = [["noise", *(f"{num} seeds" for num in SEEDS)]]
    for name, noise in NOISES.items():
        wins = [
            has_false_win(
                differences_without_effect(rng, noise, num_samplers=SAMPLERS[-1], num_seeds=num_seeds, trials=TRIALS)
            )
            for num_seeds in SEEDS
        ]
        lines.append([name, *map(_share, wins)])
    return lines


def _power(rng: Rng) -> list[list[str]]:
    effects = [f"{effect:g} sd" for effect in EFFECTS]
    lines = [["seeds", "samplers", *effects, "found four times in five", "checked"]]
    for num_seeds in SEEDS:
        noise = rng.normal(size=(TRIALS, num_seeds))
        for num in SAMPLERS:
            # The first step of Holm, at which the sampler stands if no other one differs.
            smallest = detectable_difference(1.0, num_pairs=num_seeds, num_comparisons=num)
            found = [_share(t_p_values(noise + effect) < LEVEL / num) for effect in (*EFFECTS, smallest)]
            lines.append([str(num_seeds), str(num), *found[:-1], f"{smallest:.1f} sd", found[-1]])
    return lines


def _episodes(rng: Rng) -> list[list[str]]:
    lines = [["val episodes", "episodes resampled", "windows resampled"]]
    for num_episodes in EPISODES:
        held = []
        for _ in range(EPISODE_TRIALS):
            squared = episode_errors(rng, num_episodes=num_episodes)
            num_targets = np.full(num_episodes, squared.shape[-1])
            intervals = cluster_interval(squared.sum(-1)[None], num_targets), window_interval(rng, squared)
            held.append([low <= 0 <= high for low, high in intervals])
        lines.append([str(num_episodes), *map(_share, np.array(held).T)])
    return lines


def _share(found: NDArray[np.bool_]) -> str:
    return f"{found.mean():.3f}"


def _print(title: str, lines: Iterable[Sequence[str]]) -> None:
    header, *rows = ["| " + " | ".join(cells) + " |" for cells in lines]
    rule = "|" + "---|" * (header.count("|") - 1)
    print("\n".join([f"\n{title}\n", header, rule, *rows]))


if __name__ == "__main__":
    main()
