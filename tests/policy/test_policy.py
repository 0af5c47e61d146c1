"""Inference is the training path: equal frames give equal actions, and a checkpoint can do nothing but predict."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_episodes import read_images
from numpy.typing import NDArray
from safetensors.torch import load_file
from tiny_runs import run_in, slow_but
from torch import Tensor, nn

import mobile_vla
from mobile_vla.config import compose_config
from mobile_vla.errors import UserError
from mobile_vla.policy.backbones.compact import CompactBackbone
from mobile_vla.policy.checkpoint_folder import find_checkpoint
from mobile_vla.policy.digests import seal
from mobile_vla.policy.policy import Policy
from mobile_vla.run.build import build_run

WAYS: dict[str, tuple[str, ...]] = {
    "both": ("dataset.padding=both",),
    "end": ("dataset.padding=end",),
    "none": ("dataset.padding=none",),
    "another size": ("dataset.image_size=[12,20]", "dataset.resize=letterbox"),
    "frames looked at together": ("model.backbone._target_=test_policy.MixingBackbone",),
    "attention": ("model/head=gpt", "dataset.padding=end"),
    "bgr, three actions": ("dataset.channel_order=bgr", "dataset.actions=[linear_x,linear_y,angular_z]"),
}


class MixingBackbone(CompactBackbone):
    """A backbone that is not part of the package: the feature of a frame is the sum of those that exist up to it."""

    def __init__(
        self, *, channels: Sequence[int], feature_dim: int, vocabulary_size: int, camera_towers: Any, num_cameras: int
    ) -> None:
        super().__init__(
            channels=channels,
            feature_dim=feature_dim,
            vocabulary_size=vocabulary_size,
            camera_towers=camera_towers,
            num_cameras=num_cameras,
        )
        self.frames_apart = False

    def forward(
        self, images_BTVCYX: torch.Tensor, history_BT: torch.Tensor, instruction: Sequence[str]
    ) -> torch.Tensor:
        return (super().forward(images_BTVCYX, history_BT, instruction) * history_BT[..., None]).cumsum(1)


TRUSTED = ["test_policy.MixingBackbone"]


ALWAYS = ("both", "frames looked at together", "bgr, three actions")
"""One with the default padding, one of another backbone and one of other data; the others are slow."""


@pytest.fixture(scope="module", params=slow_but(WAYS, ALWAYS))
def trained(
    request: pytest.FixtureRequest, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, tuple[str, ...]]:
    """A run folder and the overrides of its run."""
    overrides = (*tiny, *WAYS[request.param], "evaluation.shortcuts=false")
    ran = run_in(tmp_path_factory.mktemp("policy") / "run", *overrides, "trainer.learning_rate=0.02")
    assert ran.exit_code == 0, ran.message
    return ran.folder, overrides


@pytest.fixture(scope="module")
def run_folder(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the default padding."""
    return run_in(tmp_path_factory.mktemp("policy") / "run", *tiny).folder


def images_like(policy: Policy, count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def test_recorded_episodes_give_what_training_predicts_for_the_same_windows(
    trained: tuple[Path, tuple[str, ...]],
) -> None:
    folder, overrides = trained
    run = build_run(compose_config(overrides))
    policy = mobile_vla.Policy.load(folder, trust=TRUSTED)
    run.model.load_state_dict(policy._model.state_dict())
    run.model.eval()
    num_compared = 0
    for reader in run.data.readers.values():
        windows = reader.windows
        batch = reader.gather(np.arange(len(windows)))
        with torch.no_grad():
            features = run.model.encode(batch.images_BTVCYX, batch.history_BT, batch.instruction)
            contexts = run.model.head.history(features, batch.history_BT)
            predicted_BTKA = run.model.normalizer.denormalize(run.model.head.predict(contexts)).numpy()
        for number, name in enumerate(windows.episode_names):
            episode = run.data.episodes[name]
            policy.reset()
            said = [policy.act(image, episode.instruction) for image in read_images(episode.path)]
            for row in np.flatnonzero(windows.episode == number):
                start, size = int(windows.start[row]), policy.description.window_size
                # Where windows begin with the episode, its first frames are predicted from inside the first window.
                first = 0 if start == 0 and run.dataset.padding != "both" else size - 1
                np.testing.assert_allclose(said[start + first : start + size], predicted_BTKA[row, first:], atol=1e-5)
                num_compared += size - first
    assert num_compared > 90


def test_robots_driven_together_answer_as_each_alone(run_folder: Path) -> None:
    together, alone = Policy.load(run_folder), Policy.load(run_folder)
    texts = ["go left", "go right", "stop"]
    images = images_like(together, 15).reshape(5, 3, 16, 16, 3)
    said = [together.act(step, texts, robots=["a", "b", "c"]) for step in images]
    for number, text in enumerate(texts):
        alone.reset()
        for step in range(5):
            np.testing.assert_allclose(alone.act(images[step, number], text), said[step][number], atol=1e-5)


def test_robots_may_leave_and_come_in_any_order(run_folder: Path) -> None:
    policy, other = Policy.load(run_folder), Policy.load(run_folder)
    images = images_like(policy, 6)
    policy.act(images[:2], ["x", "x"], robots=["a", "b"])
    policy.act(images[2:3], ["x"], robots=["b"])
    answer = policy.act(images[3:5], ["x", "x"], robots=["b", "a"])

    for robot, seen in (("b", (1, 2, 3)), ("a", (0, 4))):
        other.reset()
        chunks = [other.act(images[i], "x") for i in seen]
        np.testing.assert_allclose(answer[["b", "a"].index(robot)], chunks[-1], atol=1e-5)


def test_reset_forgets_and_forgets_only_whom_it_names(run_folder: Path) -> None:
    policy = Policy.load(run_folder)
    first, second = images_like(policy, 2)
    fresh = policy.act(first, "x")
    later = policy.act(first, "x")
    assert not np.allclose(fresh, later, atol=1e-6)

    policy.reset()
    assert np.array_equal(policy.act(first, "x"), fresh)

    policy.reset()
    policy.act(np.stack([first, first]), ["x", "x"], robots=["a", "b"])
    policy.reset(["a"])
    kept = policy.act(np.stack([second, second]), ["x", "x"], robots=["a", "b"])
    assert not np.allclose(kept[0], kept[1], atol=1e-6)


def test_a_camera_may_use_its_buffer_again(run_folder: Path) -> None:
    policy, other = Policy.load(run_folder), Policy.load(run_folder)
    first, second = images_like(policy, 2)
    buffer = first.copy()
    policy.act(buffer, "x")
    buffer[:] = second
    other.act(first, "x")
    assert np.array_equal(policy.act(buffer, "x"), other.act(second, "x"))


def test_answers_are_physical_and_shaped_as_training_has_them(run_folder: Path) -> None:
    policy = Policy.load(run_folder)
    chunk = policy.act(images_like(policy, 1)[0], "go")
    assert chunk.shape == (policy.fwd_pred_next_n, len(policy.action_names)) == (4, 2)
    assert chunk.dtype == np.float32
    assert policy.action_names == ("linear_x", "linear_y")


@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_a_checkpoint_is_found_through_its_run_or_alone(checkpoint: str, run_folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "copied"
    shutil.copytree(find_checkpoint(run_folder, checkpoint), alone)
    for name in ("optimizer.safetensors", "arrays.safetensors", "training.json"):
        (alone / name).unlink()  # inference needs none of them
    seal(alone)
    one, two = Policy.load(run_folder, checkpoint=checkpoint), Policy.load(alone)
    image = images_like(one, 1)[0]
    assert np.array_equal(one.act(image, "x"), two.act(image, "x"))


BAD_INPUT: dict[str, tuple[Any, Any, str]] = {
    "floats": (np.zeros((8, 8, 3)), "x", r"image: float64 \[1, 8, 8, 3\]; expected a uint8 array"),
    "grey": (np.zeros((8, 8), np.uint8), "x", r"image: uint8 \[1, 8, 8\]; expected"),
    "no pixels": (np.zeros((0, 8, 3), np.uint8), "x", "no pixels"),
    "no text": (np.zeros((1, 8, 8, 3), np.uint8), [3], "instruction: 3; expected a text"),
    "one text for two": (np.zeros((2, 8, 8, 3), np.uint8), ["x"], "2 images, 1 instructions"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_in_words_and_not_remembered(case: str, run_folder: Path) -> None:
    policy, other = Policy.load(run_folder), Policy.load(run_folder)
    image, instruction, message = BAD_INPUT[case]
    with pytest.raises(UserError, match=message):
        policy.act(image, instruction)
    good = images_like(policy, 1)[0]
    assert np.array_equal(policy.act(good, "x"), other.act(good, "x"))


def test_one_robot_cannot_show_two_images_at_once(run_folder: Path) -> None:
    policy = Policy.load(run_folder)
    with pytest.raises(UserError, match="no robot twice"):
        policy.act(images_like(policy, 2), ["x", "x"], robots=["a", "a"])


class OwnBackbone(CompactBackbone):
    """A backbone that is not part of the package."""


def edited(run_folder: Path, folder: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    shutil.copytree(find_checkpoint(run_folder), folder)
    description = json.loads((folder / "policy.json").read_text())
    edit(description)
    (folder / "policy.json").write_text(json.dumps(description))
    seal(folder)
    return folder


ATTACKS = (
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "hydra.utils.instantiate",
    "torch.load",
    "mobile_vla.policy.model.torch.hub.load",
    "mobile_vla.policy.backbones.compact.re.compile",
    "mobile_vla.policy.backbones.compact.lru_cache",
    "mobile_vla.policy.backbones.compact.hashed_words",
    "mobile_vla.policy.model.functional",
    "mobile_vla.policy.model.nn",
    "mobile_vla.policy.backbones.nowhere.Backbone",
    "mobile_vla.policy.stored_model.importlib",
    "mobile_vla.commands.cli.main",
    "test_policy.OwnBackbone",
    "",
    7,
    None,
)


@pytest.mark.parametrize("where", ["model", "backbone", "head", "deep"])
@pytest.mark.parametrize("target", ATTACKS)
def test_a_checkpoint_cannot_name_what_is_called(target: object, where: str, run_folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was_here"

    def edit(description: dict[str, Any]) -> None:
        attack = {"_target_": target, "command": f"touch {mark}", "_args_": [f"touch {mark}"]}
        if where == "model":
            description["model"] = attack
        elif where == "deep":
            description["model"]["head"]["history"]["hidden_dim"] = attack
        else:
            description["model"][where] = attack

    folder = edited(run_folder, tmp_path / "checkpoint", edit)
    with pytest.raises(UserError, match=str(folder)):
        Policy.load(folder)
    assert not mark.exists()


def test_interpolations_of_a_checkpoint_are_not_resolved(run_folder: Path, tmp_path: Path) -> None:
    def edit(description: dict[str, Any]) -> None:
        description["model"]["head"]["history"]["hidden_dim"] = "${oc.env:HOME}"

    with pytest.raises(UserError, match="cannot be loaded"):
        Policy.load(edited(run_folder, tmp_path / "checkpoint", edit))


def test_a_class_of_ones_own_is_built_where_it_is_trusted(run_folder: Path, tmp_path: Path) -> None:
    name = f"{OwnBackbone.__module__}.{OwnBackbone.__qualname__}"

    def edit(description: dict[str, Any]) -> None:
        description["model"]["backbone"]["_target_"] = name

    folder = edited(run_folder, tmp_path / "checkpoint", edit)
    with pytest.raises(UserError, match="trust=") as refused:
        Policy.load(folder)
    assert name in str(refused.value)
    assert isinstance(Policy.load(folder, trust=[name])._model.backbone, OwnBackbone)


def test_trust_in_a_function_is_not_enough(run_folder: Path, tmp_path: Path) -> None:
    def edit(description: dict[str, Any]) -> None:
        description["model"]["backbone"]["_target_"] = "os.system"

    with pytest.raises(UserError, match="not a class or function defined there"):
        Policy.load(edited(run_folder, tmp_path / "checkpoint", edit), trust=["os.system"])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def described_as(key: str, value: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "policy.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return damage


WRONG_VALUES = {
    "padding": "left",
    "window_size": 0,
    "fwd_pred_next_n": 10**9,
    "image": {"size": [4, 10**9], "resize": "direct", "channel_order": "rgb"},
    "spec": {"actions": [{"name": "a/b"}], "cameras": []},
}


@pytest.mark.parametrize("key", WRONG_VALUES)
def test_a_value_that_no_training_could_write_is_named(key: str, run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(find_checkpoint(run_folder), folder)
    described_as(key, WRONG_VALUES[key])(folder)
    seal(folder)
    with pytest.raises(UserError, match=rf"policy\.json cannot be read: {key}"):
        Policy.load(folder)


BOMBS: dict[str, tuple[tuple[str, ...], object]] = {
    "wide": (("head", "history", "hidden_dim"), 10**9),
    "a little wider": (("head", "history", "hidden_dim"), 4_000),
    "deep": (("head", "history", "num_layers"), 10**6),
    "rows": (("backbone", "vocabulary_size"), 10**6),
    "channels": (("backbone", "channels"), [16, 10**9]),
    "infinite": (("backbone", "feature_dim"), 1e999),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_numbers_of_a_larger_model_than_was_stored_take_no_memory(
    bomb: str, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (*parents, key), value = BOMBS[bomb]

    def edit(description: dict[str, Any]) -> None:
        node = description["model"]
        for parent in parents:
            node = node[parent]
        assert key in node
        node[key] = value

    folder = edited(run_folder, tmp_path / "checkpoint", edit)
    num_stored = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    num_filled = []  # that is when memory is really taken

    def counting(fill: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def count(tensor: Tensor, *args: object, **options: object) -> Tensor:
            num_filled.append(tensor.numel())
            return fill(tensor, *args, **options)

        return count

    for name in ("normal_", "uniform_"):
        monkeypatch.setattr(Tensor, name, counting(getattr(Tensor, name)))
    with pytest.raises(UserError, match=r"no size or number of a model|a larger model than model\.safetensors"):
        Policy.load(folder)
    assert sum(num_filled) <= 2 * num_stored


DAMAGES: dict[str, Callable[[Path], None]] = {
    "weights cut": lambda folder: cut(folder / "model.safetensors"),
    "weights pickled": lambda folder: torch.save(nn.Linear(2, 2), folder / "model.safetensors"),
    "description cut": lambda folder: cut(folder / "policy.json"),
    "description of nothing": lambda folder: (folder / "policy.json").write_text("{}") and None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named(damage: str, run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(find_checkpoint(run_folder), folder)
    DAMAGES[damage](folder)
    with pytest.raises(
        UserError, match=r"is damaged: (model\.safetensors|policy\.json) has [0-9]+ bytes; expected"
    ) as refused:
        Policy.load(folder)
    assert str(folder) in str(refused.value)
    seal(folder)  # as if it had been saved so
    with pytest.raises(UserError, match=r"cannot be (loaded|read)") as refused:
        Policy.load(folder)
    assert str(folder) in str(refused.value)


def test_a_folder_without_a_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        Policy.load(tmp_path)


def test_the_package_gives_the_policy_and_nothing_that_is_not_there() -> None:
    assert mobile_vla.Policy is Policy
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = mobile_vla.Nothing


@pytest.mark.parametrize("num_before", [1, 2, 4])
def test_a_new_instruction_is_read_with_the_whole_history(num_before: int, run_folder: Path) -> None:
    policy, other = Policy.load(run_folder), Policy.load(run_folder)
    images = images_like(policy, num_before + 1)
    for image in images[:-1]:
        policy.act(image, "go left")
    changed = policy.act(images[-1], "go right")
    expected = [other.act(image, "go right") for image in images]
    np.testing.assert_allclose(changed, expected[-1], atol=1e-5)


@pytest.mark.parametrize("padding", ["both", "end"])
def test_a_backbone_that_looks_at_the_window_sees_it_anew_at_every_step(
    padding: str, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    ran = run_in(tmp_path / "run", *tiny, *WAYS["frames looked at together"], f"dataset.padding={padding}")
    together, alone = (Policy.load(ran.folder, trust=TRUSTED) for _ in range(2))
    images = images_like(together, 10).reshape(5, 2, 16, 16, 3)
    texts = [["go left", "go right"], ["go left", "stop"]]
    said = [together.act(step, texts[number > 2], robots=["a", "b"]) for number, step in enumerate(images)]

    for robot in range(2):
        for number in range(5):
            alone.reset()
            seen = images[max(0, number + 1 - alone.description.window_size) : number + 1, robot]
            answers = [alone.act(image, texts[number > 2][robot]) for image in seen]
            np.testing.assert_allclose(said[number][robot], answers[-1], atol=1e-5)
