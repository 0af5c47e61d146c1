"""Make the scale by which errors are measured in tests, and specs of robots with joints and grippers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from made_episodes import ACTION_NAMES, made_spec

from mobile_vla.evaluation.action_scale import ActionScale
from mobile_vla.schema import Episode
from mobile_vla.spec import Camera, Signal, Spec

JOINT = Signal(name="joint", unit="rad", kind="position")
GRIPPER = Signal(name="gripper", kind="binary")
TURN = Signal(name="turn", unit="rad/s", kind="velocity", rest=0.0)


def signals_spec(*signals: Signal) -> Spec:
    """Return the spec of data with these actions and one camera."""
    return Spec(actions=signals, cameras=(Camera(name="camera", rows=2, columns=2),))


def made_scale(names: Sequence[str] = ACTION_NAMES, *, train: Sequence[Episode] = ()) -> ActionScale:
    """Return the scale of the actions ``names`` over ``train``, which must have them; of spread 1 without episodes."""
    actions = [e.actions for e in train] or [np.array([[-1.0], [1.0]], np.float32).repeat(len(names), 1)]
    return ActionScale.of(made_spec(names), actions)
