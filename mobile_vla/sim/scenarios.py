"""The scenarios of the embedded collection and their frequencies, which are as uneven as in real collections."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sim.scene import BOTTLE_COLOURS, NamedBy, Scenario

Shares = Mapping[str, Mapping[str, float]]
"""The frequency of each value of each field of a scenario."""

SCENARIO_SHARES: Shares = {
    "num_boxes": {"1": 0.62, "2": 0.38},
    "layout": {"hori": 0.58, "vert": 0.42},
    "side": {"left": 0.55, "right": 0.45},
    "placement": {"core": 0.70, "variant": 0.30},
    "distance": {"close": 0.25, "medium": 0.45, "far": 0.30},
}
"""For bottles that differ only in their side; 1box_hori_left_core_medium is the most frequent cell, as in the real
collections."""

SCENARIO_FIELDS = ("num_boxes", "layout", "side")
"""The fields that identify a scenario in the data set; the other fields are variants of it."""

NUM_SCENARIOS = math.prod(len(SCENARIO_SHARES[field]) for field in SCENARIO_FIELDS)


def shares_of(named_by: Sequence[NamedBy]) -> Shares:
    """Return the shares of a collection whose instructions name bottles in these ways, all equally often.

    If ``named_by`` contains ``colour``, every scene has one red and one blue bottle, each equally often on either side
    and independent of the target.
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

    0 makes all scenarios equally frequent, 1 changes nothing, and larger exponents make rare scenarios rarer.
    """
    if exponent == 1:
        return shares
    return {**shares, **{field: _raised(shares[field], exponent) for field in SCENARIO_FIELDS}}


def _raised(shares: Mapping[str, float], exponent: float) -> dict[str, float]:
    # Divided by the largest share, the sum of powers is at least 1: no exponent can lead to 0 / 0.
    largest = max(shares.values())
    powers = {value: (share / largest) ** exponent for value, share in shares.items()}
    return {value: power / sum(powers.values()) for value, power in powers.items()}


def spread_scenarios(num_episodes: int, shares: Shares = SCENARIO_SHARES, *, at_least: int = 0) -> list[Scenario]:
    """Return one scenario per episode: cells in proportion to the product of ``shares``, by largest remainders.

    Deterministic. A scenario (all cells that share the SCENARIO_FIELDS) with fewer than ``at_least`` episodes gets some
    from the most frequent scenario; ``num_episodes`` must be large enough.
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
    """Move episodes from the most frequent kind to the rarest, in place, until all kinds have ``at_least``."""
    cells_of = [np.flatnonzero([other == kind for other in kinds]) for kind in dict.fromkeys(kinds)]
    while min(totals := [int(counts[cells].sum()) for cells in cells_of]) < at_least:
        # Within a kind, take from the largest cell and give to the cell that is furthest below its share.
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
"""All cells of all collections."""


def sample_scenario(rng: np.random.Generator, shares: Shares = SCENARIO_SHARES) -> Scenario:
    """Draw one scenario: each field independently, with the frequencies in ``shares``."""
    return _scenario(shares, [str(rng.choice(list(values), p=list(values.values()))) for values in shares.values()])
