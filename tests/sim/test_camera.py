"""Laws of the camera: what stands where is seen where, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest

from mobile_vla.sim.camera import FrontCamera, lens_directions
from mobile_vla.sim.scene import Scenario, Scene, sample_scene
from mobile_vla.streams import Stream

SIZE = 64


def far_scene(position: int = 0, **fields: str) -> Scene:
    values = {"layout": "hori", "side": "left", "placement": "core", "distance": "far", **fields}
    return sample_scene(Scenario(num_boxes=1, **values), Stream(7, "test"), position=position)


def seen(camera: FrontCamera, body: str, *, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of the pixels that show a body."""
    geom = camera.cast((x, y)).geom.reshape(SIZE, SIZE)
    owner = np.where(geom >= 0, camera.model.geom_bodyid[geom], -1)
    return np.nonzero(owner == camera.model.body(body).id)


def test_a_box_ahead_appears_in_the_lower_middle_and_bottles_on_their_sides() -> None:
    for position in range(10):
        scene = far_scene(position)
        camera = FrontCamera(scene, image_size=SIZE)
        box_rows, box_columns = seen(camera, "box_0", x=0.0, y=0.0)
        assert SIZE * 0.35 < box_rows.mean() < SIZE * 0.75
        assert abs(box_columns.mean() - (SIZE - 1) / 2) < SIZE * 0.1
        assert seen(camera, "bottle_left", x=0.0, y=0.0)[1].max() < SIZE / 2
        assert seen(camera, "bottle_right", x=0.0, y=0.0)[1].min() >= SIZE / 2


def test_a_bottle_at_3_6_m_is_still_seen() -> None:
    scene = far_scene()
    camera = FrontCamera(scene, image_size=SIZE)
    x, y = scene.bottles["left"]
    rows, _ = seen(camera, "bottle_left", x=x - 3.6, y=y - 0.3)
    assert len(rows) >= 5
    assert np.ptp(rows) >= 4


def test_things_grow_when_the_robot_comes_closer() -> None:
    scene = far_scene()
    camera = FrontCamera(scene, image_size=SIZE)
    x, y = scene.bottles["left"]
    sizes = [len(seen(camera, "bottle_left", x=x - distance, y=y)[0]) for distance in (2.0, 1.5, 1.0, 0.5)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_depth_meets_the_geometry() -> None:
    scene = far_scene()
    camera = FrontCamera(scene, image_size=SIZE)
    rays = camera.cast((0.1, 0.2))
    floor = rays.geom == camera.model.geom("floor").id
    assert np.abs(rays.point[floor, 2]).max() < 1e-9
    assert np.all(rays.normal[floor] == [0, 0, 1])
    hits = rays.geom >= 0
    camera_place = [0.1, 0.2, 0.35]
    assert np.linalg.norm(rays.point[hits] - camera_place, axis=1) == pytest.approx(rays.depth_m[hits])


def test_the_lens_is_symmetric_and_110_degrees_wide() -> None:
    directions = lens_directions(SIZE).reshape(SIZE, SIZE, 3)
    assert np.linalg.norm(directions, axis=-1) == pytest.approx(1.0)
    assert directions[:, ::-1] * [1, -1, 1] == pytest.approx(directions)
    middle_row = directions[SIZE // 2 - 1 : SIZE // 2 + 1].mean(axis=0)
    edge = np.degrees(np.arctan2(middle_row[0, 1], middle_row[0, 0]))
    assert edge == pytest.approx(110 / 2 * (SIZE - 1) / SIZE, abs=0.2)


@pytest.mark.parametrize("position", range(3))
def test_the_image_never_tells_which_bottle_is_meant(position: int) -> None:
    images = []
    for side in ("left", "right"):
        scene = far_scene(position, side=side)
        x, y = scene.start
        images.append(FrontCamera(scene, image_size=SIZE).render((x, y)))
    assert np.array_equal(*images)


def test_a_mirrored_world_gives_the_mirrored_image() -> None:
    scene = far_scene()
    look = replace(scene.look, floor_pattern="plain")
    x, y, z = look.light
    mirrored = replace(
        scene,
        boxes=tuple(replace(box, y=-box.y) for box in scene.boxes),
        bottles={"left": _flip(scene.bottles["right"]), "right": _flip(scene.bottles["left"])},
        look=replace(look, light=(x, -y, z)),
    )
    image = FrontCamera(replace(scene, look=look), image_size=SIZE).render((0.0, 0.13)).astype(int)
    other = FrontCamera(mirrored, image_size=SIZE).render((0.0, -0.13)).astype(int)
    # Shadow cells are not laid symmetrically, and edges may fall either way: a few pixels differ.
    assert np.mean(np.abs(image - other[:, ::-1]).max(axis=-1) > 8) < 0.02


def test_boxes_darken_the_floor_beside_them_and_nowhere_brighten_it() -> None:
    scene = far_scene()
    cameras = [FrontCamera(world, image_size=SIZE) for world in (scene, replace(scene, boxes=()))]
    floors = [camera.cast((0.0, 0.0)).geom == camera.model.geom("floor").id for camera in cameras]
    both = (floors[0] & floors[1]).reshape(SIZE, SIZE)
    with_box, without_box = (camera.render((0.0, 0.0))[both].astype(int) for camera in cameras)
    assert np.all(with_box <= without_box)
    assert np.any(with_box < 0.8 * without_box)


def test_rendering_does_not_depend_on_what_was_rendered_before() -> None:
    camera = FrontCamera(far_scene(), image_size=SIZE)
    first = camera.render((0.0, 0.0))
    camera.render((1.0, 0.8))
    assert np.array_equal(first, camera.render((0.0, 0.0)))


def _flip(place: tuple[float, float]) -> tuple[float, float]:
    return place[0], -place[1]
