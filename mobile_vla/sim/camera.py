"""Render the robot's front camera by MuJoCo's ray casting, without OpenGL.

The lens is an equidistant wide-angle lens, 110 degrees wide and 62 degrees high (16:9). The image is squeezed to a
square, as the loaders of the real collections do: a bottle 3.6 m away is then still about six pixels tall.
"""

# pyright: reportAttributeAccessIssue=false
# mujoco's names come from compiled modules without stubs.

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from mobile_vla.sim.appearance import Appearance
from mobile_vla.sim.scene import Scene
from mobile_vla.sim.world import CAMERA_SITE, ROBOT_BODY, build_model

FIELD_OF_VIEW_RAD = math.radians(110)
ASPECT = 16 / 9

_SHADOW_CELL_M = 0.08
_LAMP_HALF_SIZE_M = 0.2
_FAR_M = 100.0
_NO_GEOM = -2  # not -1, which is the geom id of a ray that hits nothing


@dataclass(frozen=True, kw_only=True)
class CastRays:
    """What the rays of one image hit, row by row from the top left: P pixels.

    ``geom`` [P] is the geom's id, -1 for the sky; ``depth_m`` [P] is the distance along the ray; ``point`` and
    ``normal`` are [P, 3] in the world frame and undefined for the sky.
    """

    geom: NDArray[np.int32]
    depth_m: NDArray[np.float32]
    point: NDArray[np.float32]
    normal: NDArray[np.float32]


def lens_directions(image_size: int) -> NDArray[np.float64]:
    """Return the unit directions [P, 3] of all pixels in the camera's frame (x ahead, y left, z up)."""
    centred = (np.arange(image_size) - (image_size - 1) / 2) / (image_size / 2)
    across = centred * FIELD_OF_VIEW_RAD / 2
    down = centred * FIELD_OF_VIEW_RAD / 2 / ASPECT
    down_YX, across_YX = np.meshgrid(down, across, indexing="ij")
    angle = np.hypot(across_YX, down_YX)
    scale = np.sinc(angle / np.pi)  # sin(angle) / angle, which is 1 in the centre
    return np.stack([np.cos(angle), -across_YX * scale, -down_YX * scale], axis=-1).reshape(-1, 3)


class FrontCamera:
    """The camera on the robot of one scene; the MuJoCo ``model`` of the scene is built if it is not given."""

    def __init__(self, scene: Scene, *, image_size: int, model: mujoco.MjModel | None = None) -> None:
        self._look = scene.look
        self._room = scene.room
        self.model = build_model(scene) if model is None else model
        self._data = mujoco.MjData(self.model)
        self._image_size = image_size
        self._lens = lens_directions(image_size)
        self._robot = self.model.body(ROBOT_BODY).id
        floor = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_GEOM, "floor")
        self._floor = floor if floor >= 0 else _NO_GEOM
        # The last row is the sky's colour: rays that hit nothing have the id -1, which indexes the last row.
        self._albedo = np.vstack([_geom_colours(self.model), scene.look.sky_rgb]).astype(np.float32)
        mujoco.mj_kinematics(self.model, self._data)
        self._shadow_XY = self._cast_shadows()

    def render(self, state: ArrayLike, *, shake_rad: ArrayLike = (0, 0, 0)) -> NDArray[np.uint8]:
        """Return the RGB image [Y, X, C] for ``state``, the model's ``qpos``: (x, y) of the robot in a built model.

        ``shake_rad`` turns the camera about its own axes: roll, pitch and yaw.
        """
        rays = self.cast(state, shake_rad=shake_rad)
        size = self._image_size
        return (self._shade(rays) * 255 + 0.5).astype(np.uint8).reshape(size, size, 3)

    def cast(self, state: ArrayLike, *, shake_rad: ArrayLike = (0, 0, 0)) -> CastRays:
        """Set the world to ``state`` and cast the rays of one image in one call; see ``render``."""
        self._data.qpos[:] = state
        mujoco.mj_kinematics(self.model, self._data)
        site = self._data.site(CAMERA_SITE)
        axes = site.xmat.reshape(3, 3)
        if np.any(shake_rad):
            axes = axes @ Rotation.from_euler("xyz", shake_rad).as_matrix()
        return self._cast(site.xpos.copy(), self._lens @ axes.T)

    def _cast(self, origin: NDArray[np.float64], directions: NDArray[np.float64]) -> CastRays:
        num_rays = len(directions)
        geom = np.empty(num_rays, np.int32)
        depth = np.empty(num_rays)
        normal = np.empty(num_rays * 3)
        # All geom groups (None) and static geoms (True) can be hit, but not the robot, which carries the camera.
        mujoco.mj_multiRay(
            self.model,
            self._data,
            origin,
            directions.ravel(),
            None,
            True,
            self._robot,
            geom,
            depth,
            normal,
            num_rays,
            _FAR_M,
        )
        point = origin + directions * depth[:, None]
        return CastRays(
            geom=geom,
            depth_m=depth.astype(np.float32),
            point=point.astype(np.float32),
            normal=normal.astype(np.float32).reshape(num_rays, 3),
        )

    def _cast_shadows(self) -> NDArray[np.float32]:
        """Return the share of the lamp that each floor cell sees; computed once per episode, as the scene is static."""
        room = self._room
        x = np.arange(room.back_x, room.front_x, _SHADOW_CELL_M) + _SHADOW_CELL_M / 2
        y = np.arange(-room.half_width, room.half_width, _SHADOW_CELL_M) + _SHADOW_CELL_M / 2
        floor_XY3 = np.stack(np.broadcast_arrays(x[:, None], y[None, :], 0.0), axis=-1)
        seen_XY = np.zeros(floor_XY3.shape[:2])
        # Four points of the lamp and a blur make soft shadow edges; a single point would make hard ones.
        for offset in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            lamp = np.array(self._look.light) + np.array([*offset, 0]) * _LAMP_HALF_SIZE_M
            rays = self._cast(lamp, (floor_XY3 - lamp).reshape(-1, 3))
            seen_XY += (rays.geom == self._floor).reshape(seen_XY.shape) / 4
        return gaussian_filter(seen_XY, 0.7).astype(np.float32)

    def _shade(self, rays: CastRays) -> NDArray[np.float32]:
        """Return colours [P, C] in [0, 1]: Lambert's law under one lamp, ambient light, soft shadows on the floor."""
        look, is_floor = self._look, rays.geom == self._floor
        colour = self._albedo[rays.geom]
        colour[is_floor] = floor_colour(look, rays.point[is_floor], rays.depth_m[is_floor])

        to_lamp = np.array(look.light, np.float32) - rays.point
        lamp_distance = np.linalg.norm(to_lamp, axis=1)
        facing = np.maximum(np.einsum("pi,pi->p", rays.normal, to_lamp) / lamp_distance, 0)
        lamp_share = facing * np.minimum(look.light[2] / lamp_distance, 1)
        lamp_share[is_floor] *= self._shadow_at(rays.point[is_floor])
        # Ambient occlusion: the lowest 15 cm of upright things get up to 20 % less ambient light.
        ambient = np.where(is_floor, 1.0, 0.8 + 0.2 * np.clip(rays.point[:, 2] / 0.15, 0, 1)) * look.ambient

        is_sky = rays.geom < 0
        light = np.where(is_sky, 1.0, ambient + look.diffuse * lamp_share)
        return np.clip(colour * light[:, None] * np.array(look.tint, np.float32), 0, 1)

    def _shadow_at(self, point: NDArray[np.float32]) -> NDArray[np.float32]:
        low = np.array([self._room.back_x, -self._room.half_width])
        cell = ((point[:, :2] - low) / _SHADOW_CELL_M).astype(int)
        row, column = (np.clip(cell[:, axis], 0, self._shadow_XY.shape[axis] - 1) for axis in (0, 1))
        return self._shadow_XY[row, column]


def _geom_colours(model: mujoco.MjModel) -> NDArray[np.float32]:
    """Return RGB [geoms, C]: the colour of a geom's material if it has one, else its own."""
    colours = model.geom_rgba[:, :3].copy()
    has_material = model.geom_matid >= 0
    colours[has_material] = model.mat_rgba[model.geom_matid[has_material], :3]
    return colours


def floor_colour(look: Appearance, point: NDArray[np.float32], depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the floor's colour [P, C] at world points [P, 3] seen from ``depth_m`` [P] away.

    The pattern fades with distance, as in the blur of a lens: with one ray per pixel, distant tiles would be noise.
    """
    tile = np.floor(point[:, :2] / look.floor_tile_m).astype(np.int64)
    if look.floor_pattern == "checker":
        tone = (tile.sum(axis=1) % 2).astype(np.float32)
    elif look.floor_pattern == "planks":
        # Multiples of a prime modulo another: a cheap hash that makes neighbours differ without a visible order.
        tone = (tile[:, 1] * 7919 % 97).astype(np.float32) / 96
    elif look.floor_pattern == "carpet":
        thread = np.floor(point[:, :2] / 0.03).astype(np.int64)
        tone = ((thread[:, 0] * 7919 + thread[:, 1] * 104729) % 97).astype(np.float32) / 96
    else:
        tone = np.zeros(len(point), np.float32)
    mix = 0.5 + (tone - 0.5) * np.exp(-depth_m / 2.5)
    light, dark = np.array(look.floor_rgb, np.float32)
    return light + mix[:, None] * (dark - light)
