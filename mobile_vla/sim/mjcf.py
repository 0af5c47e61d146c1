"""Load the user's own world from an MJCF file: check its required parts and convert it for planner and camera."""

# pyright: reportAttributeAccessIssue=false
# mujoco's names come from compiled modules without stubs.

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import UserError
from mobile_vla.sim.scene import SIDES, STEP_S, Box, Room, Scene
from mobile_vla.sim.world import CAMERA_SITE, ROBOT_BODY, ROBOT_JOINTS
from mobile_vla.untrusted.mjcf_text import check_mjcf
from mobile_vla.untrusted.mjcf_trial import try_to_compile

_NEEDED = {
    mujoco.mjtObj.mjOBJ_BODY: (ROBOT_BODY, *(f"bottle_{side}" for side in SIDES)),
    mujoco.mjtObj.mjOBJ_JOINT: ROBOT_JOINTS[:2],
    mujoco.mjtObj.mjOBJ_SITE: (CAMERA_SITE,),
}
_KINDS = {
    mujoco.mjtObj.mjOBJ_BODY: "body",
    mujoco.mjtObj.mjOBJ_JOINT: "joint",
    mujoco.mjtObj.mjOBJ_SITE: "site",
}
_OPEN_SPACE_M = 1.0
"""How far the robot may drive beyond the outermost object before it counts as having left the room."""

_FARTHEST_M = 30.0
"""Limit from the origin to any obstacle: shadow map and planner grid cover the whole room and take memory."""


@dataclass(frozen=True, kw_only=True)
class OwnWorld:
    """A compiled MJCF world: bodies ``robot``, ``bottle_left``, ``bottle_right``, site ``front_camera`` on the robot.

    The robot slides on joints ``robot_x`` and ``robot_y`` along the world's axes, and turns on the joint ``robot_yaw``
    if there is one. The place to stop before a bottle is in the direction -x from it. Every other geom that can collide
    is an obstacle, except planes. A geom named ``floor`` gets the floor pattern of the scene's appearance.
    """

    path: Path
    model: mujoco.MjModel

    @property
    def can_turn(self) -> bool:
        """Whether the robot can execute angular_z."""
        return mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, ROBOT_JOINTS[2]) >= 0

    def scene(self, *, side: str, like: Scene) -> Scene:
        """Return the world as a scene: an upright box around each obstacle, the bottles, and a room around all of them.

        The colours of the bottles are unknown, so the target is named by its ``side``. Appearance and start are taken
        from ``like``: its start is used as the offset from the robot's position in the file.
        """
        model, data = self.model, mujoco.MjData(self.model)
        mujoco.mj_forward(model, data)
        robot = model.body(ROBOT_BODY).id
        bottles = {name: model.body(f"bottle_{name}").id for name in SIDES}
        own = model.body_rootid[model.geom_bodyid]
        is_solid = (model.geom_contype | model.geom_conaffinity) != 0
        is_thing = is_solid & (own != robot) & (model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE)
        is_bottle = np.isin(own, list(bottles.values()))
        low, high = _extents(model, data)
        boxes = tuple(
            Box(
                x=(low[geom, 0] + high[geom, 0]) / 2,
                y=(low[geom, 1] + high[geom, 1]) / 2,
                half_x=(high[geom, 0] - low[geom, 0]) / 2,
                half_y=(high[geom, 1] - low[geom, 1]) / 2,
                height=high[geom, 2],
            )
            for geom in np.flatnonzero(is_thing & ~is_bottle)
        )
        x, y, _ = data.xpos[robot]
        places = np.vstack([low[is_thing, :2], high[is_thing, :2], data.xpos[[robot, *bottles.values()], :2]])
        return replace(
            like,
            scenario=replace(like.scenario, side=side, colours=None, named_by="side"),
            start=(x + like.start[0], y + like.start[1]),
            boxes=boxes,
            bottles={name: (float(data.xpos[body, 0]), float(data.xpos[body, 1])) for name, body in bottles.items()},
            room=Room(
                front_x=places[:, 0].max() + _OPEN_SPACE_M,
                back_x=places[:, 0].min() - _OPEN_SPACE_M,
                half_width=np.abs(places[:, 1]).max() + _OPEN_SPACE_M,
                wall_height=0.0,
            ),
        )


def load_world(path: str | Path) -> OwnWorld:
    """Compile an MJCF file; ``UserError`` if it cannot be compiled, lacks a required name or cannot be driven in."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"mjcf={path}: no such file; expected a MuJoCo XML file")
    model = _compiled(path)
    lacking = [
        f"{_KINDS[kind]} {name!r}"
        for kind, names in _NEEDED.items()
        for name in names
        if mujoco.mj_name2id(model, kind, name) < 0
    ]
    if lacking:
        raise UserError(
            f"mjcf={path}: lacks {', '.join(lacking)}. Expected bodies robot, bottle_left and bottle_right, slide "
            "joints robot_x and robot_y on the robot (and a hinge robot_yaw if it can turn), and a site front_camera "
            "whose x axis looks ahead. Name them so in the file."
        )
    if problems := _problems(model):
        raise UserError(f"mjcf={path}: the world cannot be driven in: {'; '.join(problems)}")
    return OwnWorld(path=path, model=model)


def _compiled(path: Path) -> mujoco.MjModel:
    """Compile a file, after its text was checked and a trial compilation in another process has succeeded.

    A malicious file can exhaust the memory of the process that compiles it.
    """
    try:
        (library,) = Path(mujoco.__file__).parent.glob("libmujoco.*")
        problem = try_to_compile(check_mjcf(path), library=library)
        if problem is None:
            return mujoco.MjModel.from_xml_path(str(path))
    except UserError as error:
        raise UserError(f"mjcf={error}") from error
    except ValueError as error:
        problem = str(error)
    raise UserError(f"mjcf={path}: MuJoCo cannot compile it: {problem}")


def _problems(model: mujoco.MjModel) -> list[str]:
    """Return what prevents a drive: joints that cannot follow commands, undetected contacts, too large a world."""
    robot, num_substeps = model.body(ROBOT_BODY).id, STEP_S / model.opt.timestep
    problems = _joint_problems(model)
    if model.body_parentid[robot] != 0:
        problems.append(f"body {ROBOT_BODY!r} must be a child of worldbody")
    if model.body_rootid[model.site(CAMERA_SITE).bodyid[0]] != robot:
        problems.append(f"site {CAMERA_SITE!r} must be on the robot")
    if num_substeps < 1 or abs(num_substeps - round(num_substeps)) > 1e-6:
        problems.append(f"option timestep={model.opt.timestep:g} must divide {STEP_S} s")
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    # Tests for "within" and not for "beyond": a NaN fails both comparisons, and must be reported.
    is_within = (np.abs(data.geom_xpos) + model.geom_rbound[:, None] <= _FARTHEST_M).all(axis=1)
    bodies = [int(model.geom_bodyid[geom]) for geom in np.flatnonzero(~is_within)]
    if outside := [model.body(body).name or f"body {body}" for body in bodies]:
        problems.append(f"a geom of {', '.join(map(repr, outside))} must lie within {_FARTHEST_M:g} m of the origin")
    return problems


def _joint_problems(model: mujoco.MjModel) -> list[str]:
    data = mujoco.MjData(model)
    turned = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, ROBOT_JOINTS[2])
    if turned >= 0:
        # Turned by 1 rad, to find a slide joint that comes after the hinge: its axis turns with the robot.
        data.qpos[model.jnt_qposadr[turned]] = 1.0
    mujoco.mj_kinematics(model, data)
    problems, slide, hinge = [], mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
    for name, kind, axis in zip(ROBOT_JOINTS, (slide, slide, hinge), np.eye(3), strict=True):
        joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name)
        is_right = (
            model.jnt_bodyid[joint] == model.body(ROBOT_BODY).id
            and model.jnt_type[joint] == kind
            and np.allclose(data.xaxis[joint], axis)
        )
        if joint >= 0 and not is_right:
            what = f"{'slide' if kind == slide else 'hinge'} of the robot with the world's axis {axis.astype(int)}"
            problems.append(f"joint {name!r} must be a {what}, robot_yaw the last of its joints")
    return problems


def _extents(model: mujoco.MjModel, data: mujoco.MjData) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and highest corners [geoms, 3] of each geom's bounding box along the world's axes."""
    centre, half = model.geom_aabb[:, :3], model.geom_aabb[:, 3:]
    turn = data.geom_xmat.reshape(-1, 3, 3)
    middle = data.geom_xpos + np.einsum("gij,gj->gi", turn, centre)
    reach = np.einsum("gij,gj->gi", np.abs(turn), half)
    return middle - reach, middle + reach
