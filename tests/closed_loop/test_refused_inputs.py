"""The embedded world has one camera and measures no state: a policy that needs more is refused before it trains."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_rigs import SPEC
from tiny_runs import compose_config

from mobile_vla.closed_loop.trained_scenarios import TrainedScenarios
from mobile_vla.errors import UserError
from mobile_vla.run.build import build_closed_loop
from mobile_vla.spec import Spec


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (SPEC, "model.state: the policy gets joint_1, joint_2, joint_3, and the embedded world measures no state"),
        (
            replace(SPEC, state=()),
            "dataset.cameras: the policy sees front, wrist, and the embedded world has one camera",
        ),
    ],
)
def test_a_policy_that_needs_more_than_the_world_has_is_refused(spec: Spec, said: str) -> None:
    closed_loop = build_closed_loop(compose_config().closed_loop)
    trained = TrainedScenarios.__new__(TrainedScenarios)  # not looked at: what the policy needs is checked first
    with pytest.raises(UserError, match=said):
        closed_loop.check(trained, spec=spec, fwd_pred_next_n=10)
