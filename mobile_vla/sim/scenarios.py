"""Say which scenarios the embedded collection has, and how common each is: unevenly spread as real collections are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobile_vla.sim.scene import BOTTLE_COLOURS, NamedBy, Scenario

Shares = Mapping[str, Mapping[str, float]]
"""How common the values of each field of a scenario are."""

SCENARIO_SHARES: Shares = {
    "num_boxes": {"1": 0.62, "2": 0.38},
    "layout": {"hori": 0.58, "vert": 0.42},
    "side": {"left": 0.55, "right": 0.45},
    "placement": {"core": 0.70, "variant": 0.30},
    "distance": {"close": 0.25, "medium": 0.45, "far": 0.30},
}
"""Of bottles that only their side tells apart; 1box_hori_left_core_medium is the commonest cell, as in the real
collections."""


def shares_of(named_by: Sequence[NamedBy]) -> Shares:
    """Return the shares of a collection whose instructions name bottles in these ways, all equally often.

    Where colours are named one bottle is red and one blue in every scene, on either side equally often, whatever is
    meant.
    """
    if "colour" not in named_by:
        return SCENARIO_SHARES
    return {
        **SCENARIO_SHARES,
        "colours": dict.fromkeys(BOTTLE_COLOURS, 1 / len(BOTTLE_COLOURS)),
        "named_by": dict.fromkeys(named_by, 1 / len(named_by)),
    }


def spread_scenarios(num_episodes: int, shares: Shares = SCENARIO_SHARES) -> list[Scenario]:
    """Apportion episodes to scenarios by the product of ``shares``, largest remainders first; no chance in it."""
    cells = list(itertools.product(*(values.items() for values in shares.values())))
    wanted = num_episodes * np.array([np.prod([share for _, share in cell]) for cell in cells])
    counts = np.floor(wanted).astype(int)
    by_remainder = np.argsort(counts - wanted, kind="stable")
    counts[by_remainder[: num_episodes - counts.sum()]] += 1
    scenarios = [_scenario(shares, [value for value, _ in cell]) for cell in cells]
    return [scenario for scenario, count in zip(scenarios, counts, strict=True) for _ in range(count)]


def _scenario(shares: Shares, values: Sequence[str]) -> Scenario:
    fields: dict[str, Any] = dict(zip(shares, values, strict=True))
    return Scenario(**{**fields, "num_boxes": int(fields["num_boxes"])})


ALL_SCENARIOS = frozenset(
    _scenario(shares, values)
    for shares in (SCENARIO_SHARES, shares_of(["side", "colour"]))
    for values in itertools.product(*shares.values())
)
"""Every cell of every collection."""


def sample_scenario(rng: np.random.Generator, shares: Shares = SCENARIO_SHARES) -> Scenario:
    """Draw one scenario with the frequencies of ``shares``."""
    return _scenario(shares, [str(rng.choice(list(values), p=list(values.values()))) for values in shares.values()])
