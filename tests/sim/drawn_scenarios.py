"""Give tests scenarios: any one by Hypothesis, or all in turn."""

from hypothesis import strategies as st

from mobile_vla.sim.scene import BOTTLE_COLOURS, BOTTLE_X_M, PLACEMENTS, Scenario

KINDS = ((None, "side"), *((colours, named_by) for colours in BOTTLE_COLOURS for named_by in ("side", "colour")))
"""All that a scenario can say of its bottles: their colours, and what they are named by."""

scenarios = st.builds(
    lambda kind, **fields: Scenario(**fields, colours=kind[0], named_by=kind[1]),
    kind=st.sampled_from(KINDS),
    num_boxes=st.sampled_from((1, 2)),
    layout=st.sampled_from(("vert", "hori")),
    side=st.sampled_from(("left", "right")),
    placement=st.sampled_from(tuple(PLACEMENTS)),
    distance=st.sampled_from(tuple(BOTTLE_X_M)),
)


def scenario_at(position: int) -> Scenario:
    """Walk through all 240 scenarios in turn, beginning with the 48 whose bottles have one colour."""
    colours, named_by = KINDS[position // 48 % len(KINDS)]
    return Scenario(
        num_boxes=1 + position // 24 % 2,
        layout=("vert", "hori")[position // 12 % 2],
        side=("left", "right")[position // 6 % 2],
        placement=tuple(PLACEMENTS)[position // 3 % 2],
        distance=tuple(BOTTLE_X_M)[position % 3],
        colours=colours,
        named_by=named_by,
    )
