"""Build the MuJoCo model of a scene: static room, boxes and bottles, and a robot base that slides in x and y."""

# pyright: reportAttributeAccessIssue=false
# mujoco's names come from compiled modules without stubs.

from __future__ import annotations

import math

import mujoco

from mobile_vla.sim.scene import BOTTLE_RADIUS_M, ROBOT_RADIUS_M, SIDES, Room, Scene

CAMERA_HEIGHT_M = 0.35
CAMERA_PITCH_DOWN_RAD = math.radians(15)
CAMERA_SITE = "front_camera"
"""A site on the robot; the camera looks along its x axis, and its z axis points up in the image."""

ROBOT_BODY = "robot"
ROBOT_JOINTS = ("robot_x", "robot_y", "robot_yaw")
"""One joint per action: slides in metres along the world's axes, and a hinge, which only a user's world may have."""

# By default MuJoCo writes its warnings into a log file in the working folder. The one that matters, a number that is
# not finite, is raised as an error by the environment.
mujoco.set_mju_user_warning(lambda _: None)

_TIME_STEP_S = 0.02

_WALL_HALF_THICKNESS_M = 0.05
_WHITE = (0.93, 0.93, 0.90)


def build_model(scene: Scene) -> mujoco.MjModel:
    """Return the compiled model of a scene.

    Bodies ``robot`` (joints ``robot_x``, ``robot_y``, in metres of the world frame), ``box_0``.., ``bottle_left``,
    ``bottle_right``, ``walls``; geom ``floor``. Every geom has its own colour; nothing in the model depends on which
    bottle is the target.
    """
    spec = mujoco.MjSpec()
    spec.option.timestep = _TIME_STEP_S
    spec.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], rgba=[*scene.look.floor_rgb[0], 1]
    )
    _add_walls(spec, scene.room, scene.look.wall_rgb)
    for index, box in enumerate(scene.boxes):
        body = spec.worldbody.add_body(name=f"box_{index}", pos=[box.x, box.y, box.height / 2])
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[box.half_x, box.half_y, box.height / 2],
            rgba=[*scene.look.box_rgb, 1],
        )
    for side, rgb in zip(SIDES, scene.look.bottle_rgb, strict=True):
        x, y = scene.bottles[side]
        _add_bottle(spec, f"bottle_{side}", x, y, rgb)
    _add_robot(spec)
    return spec.compile()


def _add_walls(spec: mujoco.MjSpec, room: Room, rgb: tuple[float, float, float]) -> None:
    thickness, half_height = _WALL_HALF_THICKNESS_M, room.wall_height / 2
    middle_x, half_length = (room.front_x + room.back_x) / 2, (room.front_x - room.back_x) / 2 + 2 * thickness
    walls = spec.worldbody.add_body(name="walls", pos=[middle_x, 0, half_height])
    for sign in (-1, 1):
        for position, size in (
            ([sign * (half_length - thickness), 0, 0], [thickness, room.half_width, half_height]),
            ([0, sign * (room.half_width + thickness), 0], [half_length, thickness, half_height]),
        ):
            walls.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=position, size=size, rgba=[*rgb, 1])


def _add_bottle(spec: mujoco.MjSpec, name: str, x: float, y: float, rgb: tuple[float, float, float]) -> None:
    body = spec.worldbody.add_body(name=name, pos=[x, y, 0])
    radius = BOTTLE_RADIUS_M
    for part_radius, bottom, top, colour in (
        (radius, 0.0, 0.10, rgb),
        (radius, 0.10, 0.16, _WHITE),
        (radius, 0.16, 0.28, rgb),
        (0.55 * radius, 0.28, 0.36, rgb),
        (0.60 * radius, 0.36, 0.40, _WHITE),
    ):
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            pos=[0, 0, (bottom + top) / 2],
            size=[part_radius, (top - bottom) / 2, 0],
            rgba=[*colour, 1],
        )


def _add_robot(spec: mujoco.MjSpec) -> None:
    robot = spec.worldbody.add_body(name=ROBOT_BODY)
    robot.add_joint(name=ROBOT_JOINTS[0], type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[1, 0, 0])
    robot.add_joint(name=ROBOT_JOINTS[1], type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0, 1, 0])
    # The base is a few centimetres above the floor, so that only obstacles make contacts.
    robot.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, pos=[0, 0, 0.14], size=[ROBOT_RADIUS_M, 0.10, 0])
    half = CAMERA_PITCH_DOWN_RAD / 2
    robot.add_site(name=CAMERA_SITE, pos=[0, 0, CAMERA_HEIGHT_M], quat=[math.cos(half), 0, math.sin(half), 0])
