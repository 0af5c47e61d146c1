"""Say which scenarios the embedded collection has, and how common each is: unevenly spread as real collections are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from mobile_vla.sim.scene import Scenario

SCENARIO_SHARES: Mapping[str, Mapping[str, float]] = {
    "num_boxes": {"1": 0.62, "2": 0.38},
    "layout": {"hori": 0.58, "vert": 0.42},
    "side": {"left": 0.55, "right": 0.45},
    "placement": {"core": 0.70, "variant": 0.30},
    "distance": {"close": 0.25, "medium": 0.45, "far": 0.30},
}
"""How common each field's values are; 1box_hori_left_core_medium is the commonest cell, as in the real collections."""


def spread_scenarios(num_episodes: int) -> list[Scenario]:
    """Apportion episodes to scenarios by the product of SCENARIO_SHARES, largest remainders first; no chance in it."""
    cells = list(itertools.product(*(shares.items() for shares in SCENARIO_SHARES.values())))
    wanted = num_episodes * np.array([np.prod([share for _, share in cell]) for cell in cells])
    counts = np.floor(wanted).astype(int)
    by_remainder = np.argsort(counts - wanted, kind="stable")
    counts[by_remainder[: num_episodes - counts.sum()]] += 1
    scenarios = [_scenario(*(value for value, _ in cell)) for cell in cells]
    return [scenario for scenario, count in zip(scenarios, counts, strict=True) for _ in range(count)]


def _scenario(num_boxes: str, layout: str, side: str, placement: str, distance: str) -> Scenario:
    return Scenario(num_boxes=int(num_boxes), layout=layout, side=side, placement=placement, distance=distance)


ALL_SCENARIOS = frozenset(_scenario(*fields) for fields in itertools.product(*SCENARIO_SHARES.values()))
"""Every cell of the collection."""


def sample_scenario(rng: np.random.Generator) -> Scenario:
    """Draw one scenario with the frequencies of SCENARIO_SHARES."""
    fields = (str(rng.choice(list(shares), p=list(shares.values()))) for shares in SCENARIO_SHARES.values())
    return _scenario(*fields)
