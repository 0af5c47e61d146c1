"""Give tests scenarios: any one by Hypothesis, or all in turn."""

from hypothesis import strategies as st

from mobile_vla.sim.scene import BOTTLE_X_M, PLACEMENTS, Scenario

scenarios = st.builds(
    Scenario,
    num_boxes=st.sampled_from((1, 2)),
    layout=st.sampled_from(("vert", "hori")),
    side=st.sampled_from(("left", "right")),
    placement=st.sampled_from(tuple(PLACEMENTS)),
    distance=st.sampled_from(tuple(BOTTLE_X_M)),
)


def scenario_at(position: int) -> Scenario:
    """Walk through all 48 scenarios in turn."""
    return Scenario(
        num_boxes=1 + position // 24 % 2,
        layout=("vert", "hori")[position // 12 % 2],
        side=("left", "right")[position // 6 % 2],
        placement=tuple(PLACEMENTS)[position // 3 % 2],
        distance=tuple(BOTTLE_X_M)[position % 3],
    )
