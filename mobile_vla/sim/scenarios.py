"""Say which scenarios the embedded collection has, and how common each is: unevenly spread as real collections are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

SCENARIO_FIELDS = ("num_boxes", "layout", "side")
"""The fields that together are what the data set calls a scenario; the others vary it."""

NUM_SCENARIOS = math.prod(len(SCENARIO_SHARES[field]) for field in SCENARIO_FIELDS)


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


def imbalanced(shares: Shares, exponent: float) -> Shares:
    """Return ``shares`` with those of the scenarios (not of their variants) raised to ``exponent`` and normalised.

    0 makes all scenarios equally common, 1 changes nothing, and what is above makes the rare ones rarer.
    """
    if exponent == 1:
        return shares
    return {**shares, **{field: _raised(shares[field], exponent) for field in SCENARIO_FIELDS}}


def _raised(shares: Mapping[str, float], exponent: float) -> dict[str, float]:
    largest = max(shares.values())  # as the unit: whatever the exponent, something is left to divide by
    powers = {value: (share / largest) ** exponent for value, share in shares.items()}
    return {value: power / sum(powers.values()) for value, power in powers.items()}


def spread_scenarios(num_episodes: int, shares: Shares = SCENARIO_SHARES, *, at_least: int = 0) -> list[Scenario]:
    """Apportion episodes to cells by the product of ``shares``, largest remainders first; no chance in it.

    A scenario (all cells that share the SCENARIO_FIELDS) with fewer than ``at_least`` episodes is filled up from the
    commonest one; ``num_episodes`` must allow it.
    """
    cells = list(itertools.product(*(values.items() for values in shares.values())))
    wanted = num_episodes * np.array([np.prod([share for _, share in cell]) for cell in cells])
    counts = np.floor(wanted).astype(int)
    by_remainder = np.argsort(counts - wanted, kind="stable")
    counts[by_remainder[: num_episodes - counts.sum()]] += 1
    scenarios = [_scenario(shares, [value for value, _ in cell]) for cell in cells]
    _fill_up(counts, wanted, [(s.num_boxes, s.layout, s.side) for s in scenarios], at_least)
    return [scenario for scenario, count in zip(scenarios, counts, strict=True) for _ in range(count)]


def _fill_up(counts: NDArray[np.int64], wanted: NDArray[np.floating], kinds: Sequence[object], at_least: int) -> None:
    """Move episodes between cells, in place, from the commonest kind to the rarest until all have ``at_least``."""
    cells_of = [np.flatnonzero([other == kind for other in kinds]) for kind in dict.fromkeys(kinds)]
    while min(totals := [int(counts[cells].sum()) for cells in cells_of]) < at_least:
        common, rare = cells_of[np.argmax(totals)], cells_of[np.argmin(totals)]
        counts[common[counts[common].argmax()]] -= 1
        counts[rare[(wanted - counts)[rare].argmax()]] += 1


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
