"""MJCF files from somebody else: bombs and files outside end within seconds, with their line; good worlds stay good."""

from __future__ import annotations

import time
from pathlib import Path

import mujoco
import pytest

from mobile_vla.errors import UserError
from mobile_vla.sim.mjcf import load_world
from mobile_vla.untrusted import mjcf_trial
from mobile_vla.untrusted.mjcf_text import check_mjcf
from mobile_vla.untrusted.mjcf_trial import try_to_compile

ROBOT = (
    '<body name="robot"><joint name="robot_x" type="slide" axis="1 0 0"/>'
    '<joint name="robot_y" type="slide" axis="0 1 0"/><geom size=".1"/>'
    '<site name="front_camera"/></body><body name="bottle_left" pos="2 1 0"><geom size=".1"/></body>'
    '<body name="bottle_right" pos="2 -1 0"><geom size=".1"/></body>'
)
GEOM = '<geom size="1"/>'


def world(inside: str = "", *, before: str = "") -> str:
    return f'<mujoco>\n<option timestep="0.01"/>\n{before}\n<worldbody>\n{ROBOT}\n{inside}\n</worldbody></mujoco>'


BOMBS = {
    "replicate": (world(f'<replicate count="1e8">{GEOM}</replicate>'), r"line 6: with <replicate> .* 100,000 elements"),
    "nested": (
        world('<replicate count="900">\n<replicate count="900">\n<geom/></replicate></replicate>'),
        r"line 7: with <replicate>",
    ),
    "in entities": (world('<replicate count="1&#x65;9"><geom/></replicate>'), r"line 6: with <replicate>"),
    "after a comment": (world('<!-- > \n " --><replicate\n count="1e9"><geom/></replicate>'), r"line 7: with"),
    "many elements": (world("<geom/>" * 100_001), r"line 6: with <geom>"),
    "composite": (world('<composite type="cable" count="1000 1000 1"/>'), r"line 6: <composite> has count"),
    "flexcomp": (world('<flexcomp type="grid" count="2000 2000 200"/>'), r"line 6: <flexcomp> has count"),
    "texture": (
        world(before='<asset><texture builtin="flat" width="90000" height="90000"/></asset>'),
        r"line 3: <texture> has width height",
    ),
    "hfield": (world(before='<asset>\n<hfield nrow="60000" ncol="60000"/></asset>'), r"line 4: <hfield> has nrow ncol"),
    "memory": (world(before='<size memory="100G"/>'), r"line 3: <size> has memory 100G"),
    "user": (world(before='<size nuser_geom="2000000000"/>'), r"line 3: <size> has nuser_geom"),
    "numeric": (world(before='<custom><numeric size="2e9"/></custom>'), r"line 3: <numeric> has size"),
    "entities": ('<!DOCTYPE a [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><mujoco model="&b;"/>', r"lacks body 'robot'"),
    "deep": (world("<body>" * 5000), r"MuJoCo cannot compile it: .*nest"),
    "a broken tag": (world('<geom size="1" a=<b"/>'), r"line 6 holds a '<' that begins no tag"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_named_with_its_line_at_once(bomb: str, tmp_path: Path) -> None:
    text, message = BOMBS[bomb]
    (tmp_path / "world.xml").write_text(text)
    started = time.process_time()
    with pytest.raises(UserError, match=message) as refused:
        load_world(tmp_path / "world.xml")
    assert str(refused.value).startswith(f"mjcf={tmp_path / 'world.xml'}: ")
    assert time.process_time() - started < 2


@pytest.mark.parametrize("limit", ["memory", "time"])
def test_what_is_not_seen_in_the_text_ends_in_a_process_of_its_own(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mjcf_trial, "MAX_SECONDS", 1)
    hidden = {
        "memory": world(f'<replicate count="3000">{GEOM}</replicate>', before='<size nuser_geom="1000000"/>'),
        "time": world('<flexcomp name="a" type="grid" count="46 46 46" dim="3" spacing="1 1 1"/>'),
    }
    path = tmp_path / "world.xml"
    path.write_text(hidden[limit])
    started = time.monotonic()
    with pytest.raises(UserError, match=r"it takes more than 1 s or 0\.75 GiB to compile"):
        load_world(path)
    assert time.monotonic() - started < 20  # 1 s of the processor, which others may use as well
    started = time.process_time()
    with pytest.raises(UserError, match="it takes more than"):
        load_world(path)
    assert time.process_time() - started < 0.5, "what was tried is known"


OUTSIDE = {
    "include": world(before='\n<include file="../secret.xml"/>'),
    "absolute": world(before='\n<include file="SECRET"/>'),
    "mesh": world(before='<asset>\n<mesh name="a" file="../secret.xml"/></asset>'),
    "in entities": world(before="<asset>\n<mesh file='&#46;&#46;/secret.xml'/></asset>"),
    "by a folder": world(before='<compiler meshdir=".."/><asset>\n<mesh name="a" file="secret.xml"/></asset>'),
    "texture": world(before='<asset>\n<texture type="cube" fileup="../secret.xml"/></asset>'),
    "hfield": world(before='<asset>\n<hfield name="a" file="link.xml"/></asset>'),
    "model": world(before='<asset>\n<model name="a" file="../secret.xml"/></asset>'),
    "in an included file": world(before='\n<include file="part.xml"/>'),
}


@pytest.mark.parametrize("way", OUTSIDE)
def test_files_outside_its_folder_are_refused_with_their_line(way: str, tmp_path: Path) -> None:
    folder = tmp_path / "world"
    folder.mkdir()
    (tmp_path / "secret.xml").write_text("<mujoco/>")
    (folder / "link.xml").symlink_to(tmp_path / "secret.xml")
    (folder / "part.xml").write_text('<mujoco>\n\n\n<include file="../secret.xml"/></mujoco>')
    (folder / "world.xml").write_text(OUTSIDE[way].replace("SECRET", str(tmp_path / "secret.xml")))
    with pytest.raises(UserError, match=r"(world|part)\.xml: line 4: .*which lies outside of it"):
        load_world(folder / "world.xml")


def test_a_world_of_several_files_and_odd_notations_is_the_one_that_mujoco_reads(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "box.xml").write_text(
        "<mujoco><worldbody><geom name='box' size='.1' pos='1 1 1'/></worldbody></mujoco>"
    )
    parts = '<!-- -- --><include file="parts/box.xml"/><![CDATA[<replicate count="1e9">]]>'
    path = tmp_path / "world.xml"
    path.write_text("\n" + world('<replicate count="3" offset="0 .1 0"><geom size=".01"/></replicate>', before=parts))
    assert load_world(path).model.ngeom == mujoco.MjModel.from_xml_path(str(path)).ngeom == 7
    assert check_mjcf(path) == (path, tmp_path / "parts" / "box.xml")


def test_a_world_that_changed_is_tried_again(tmp_path: Path) -> None:
    (library,) = Path(mujoco.__file__).parent.glob("libmujoco.*")
    path = tmp_path / "world.xml"
    for text, is_good in ((world(), True), (world("<geon/>"), False), (world(), True)):
        path.write_text(text)
        assert (try_to_compile(check_mjcf(path), library=library) is None) == is_good
