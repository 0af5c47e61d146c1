"""What is exported acts as what was trained, stands alone, and says of itself what its run recorded."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from test_cli import call
from test_pretrained_jobs import tiny_model
from test_rollouts import results_of, sim_overrides
from tiny_runs import SMALLEST_MODEL, Ran, run_in, slow_but, strict_json
from tiny_vlms import save_tiny_vlm

from mobile_vla.data.frames import ImageOptions
from mobile_vla.errors import UserError
from mobile_vla.metrics import references
from mobile_vla.policy.checkpoint_folder import find_checkpoint
from mobile_vla.policy.description import PolicyDescription
from mobile_vla.policy.digests import seal
from mobile_vla.policy.export.model_card import model_card
from mobile_vla.policy.export.records import Records
from mobile_vla.policy.policy import Policy
from mobile_vla.spec import Camera, Signal, Spec, known_signal

FAMILIES = ("kosmos2", "qwen2_5_vl", "smolvlm")

MATTERS = 1e-3
"""In m/s: what the adapter must change for a test to show that it was taken along."""


def actions_of(folder: Path, **options: Any) -> NDArray[np.float32]:
    policy = Policy.load(folder, **options)
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    return np.stack([policy.act(image, "Go to the left bottle") for image in images])


def edited(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    seal(path.parent)


def files_of(folder: Path) -> set[str]:
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def train(folder: Path, tiny: tuple[str, ...], *overrides: str) -> Path:
    """Return the run folder of a few steps that change much."""
    data = [override for override in tiny if not override.startswith("model.")]
    quick = (
        "trainer.steps=2",
        "trainer.learning_rate=0.02",
        "evaluation.shortcuts=false",
        "evaluation.probe_windows=0",
    )
    ran = run_in(folder, *data, *quick, *overrides)
    assert ran.exit_code == 0, ran.message
    return folder


@pytest.fixture(scope="module", params=slow_but(FAMILIES, ("kosmos2", "smolvlm")))
def adapted(
    request: pytest.FixtureRequest, vlms: Path, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of each family with an adapter, DoRA in one of them."""
    name = request.param
    dora = f"model.backbone.tuning.dora={str(name == 'smolvlm').lower()}"
    return train(tmp_path_factory.mktemp("export") / name, tiny, *tiny_model(vlms / name), dora)


@pytest.fixture(scope="module")
def smolvlm(vlms: Path, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("export") / "run", tiny, *tiny_model(vlms / "smolvlm"))


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run of the compact model on the embedded world."""
    root = tmp_path_factory.mktemp("driven")
    suites = ("~closed_loop.suites.shifted", "~closed_loop.suites.looks", "closed_loop.max_steps=5")
    ran = run_in(root / "run", *sim_overrides(root), *suites, "closed_loop.videos=0", "augmentation=mirror")
    assert ran.exit_code == 0, ran.message
    return ran


def test_an_adapter_is_exported_as_it_was_trained(adapted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("export", adapted, out) == 0

    assert files_of(out) == {
        *("README.md", "digests.json", "policy.json", "model.safetensors"),
        *("adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
    }
    np.testing.assert_array_equal(actions_of(out), actions_of(adapted))


def test_a_merged_policy_needs_nothing_but_its_folder(adapted: Path, vlms: Path, tmp_path: Path) -> None:
    assert call("export", adapted, tmp_path / "out", "--merge") == 0
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere" / "moved")

    assert "base/model.safetensors" in files_of(moved)
    assert not (moved / "adapter").exists()
    for name in files_of(moved):
        content = (moved / name).read_bytes()
        assert str(vlms).encode() not in content, name
        assert str(tmp_path).encode() not in content, name
    actions = actions_of(moved)
    np.testing.assert_allclose(actions, actions_of(adapted), atol=1e-4)
    assert np.abs(actions - actions_of(without_adapter(adapted, tmp_path / "bare"))).max() > MATTERS


def without_adapter(run: Path, folder: Path) -> Path:
    shutil.copytree(find_checkpoint(run), folder)
    path = folder / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor * ("lora_B" not in name) for name, tensor in load_file(path).items()}, path)
    seal(folder)
    return folder


def test_a_compact_policy_drives_from_its_folder_as_its_run_did(driven: Ran, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("export", driven.folder, out) == 0
    assert files_of(out) == {"README.md", "digests.json", "policy.json", "model.safetensors"}

    settings = ("closed_loop.episodes=3", "closed_loop.max_steps=5", "closed_loop.videos=0")
    suites = ("--suite", "seen", "--suite", "unseen", "--out", tmp_path / "drives")
    assert call("rollout", out, *suites, *settings) == 0
    assert results_of(tmp_path / "drives") == results_of(driven.folder)


def test_the_card_says_what_the_run_recorded(driven: Ran, tmp_path: Path) -> None:
    assert call("export", driven.folder, tmp_path / "out") == 0
    card, summary = ModelCard.load(tmp_path / "out" / "README.md"), driven.summary
    manifest, split = (strict_json((driven.folder / f"{name}.json").read_text()) for name in ("manifest", "split"))

    assert card.data.to_dict() == {
        "library_name": "mobile_vla",
        "pipeline_tag": "robotics",
        "tags": ["robotics", "vision-language-action", "shuffled"],
    }
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()
    lines = card.text.splitlines()
    for line in (
        f"# {manifest['run_id']}",
        f"- Data hash: {summary['data_hash']}",
        f"- Split hash: {summary['split_hash']}",
        f"- Episodes: train {len(split['train'])}, val {len(split['val'])}",
        f"- Commit of mobile_vla: {summary['commit']}",
        "- Steps: 2",
        "- Seed: 0",
        "- Augmentation: mirror (probability=0.5)",
        f"What the policy acts on, by probes on val: it {summary['shortcut/verdict']}.",
    ):
        assert line in lines
    # Every reference predictor stands beside the policy, not only those that are easy to beat.
    [head] = [line for line in lines if line.startswith("| RMSE |")]
    assert head == "| RMSE | val | val, mean action | val, hold-last action | val, time-step lookup | " + (
        "val, (scenario, time step) lookup |"
    )
    for title, part in (("all actions", ""), ("linear_x [m/s]", "/linear_x"), ("linear_y [m/s]", "/linear_y")):
        figures = [summary[key + part] for key in ("val/rmse", *references("val/rmse"))]
        assert f"| {title} | {' | '.join(f'{figure:.4f}' for figure in figures)} |" in lines
    for suite in ("seen", "unseen"):
        rate, low, high = (summary[f"closed_loop/{suite}/success_{name}"] for name in ("rate", "low", "high"))
        assert f"| {suite} | 3 | {rate:.1%} | {low:.1%} to {high:.1%} |" in lines
    assert re.search(r"the simulator of its training data, not on a robot", card.text)


def test_a_card_names_the_recordings_and_their_format_and_no_folder_of_this_machine(
    episodes: Path, tmp_path: Path
) -> None:
    data = ("dataset=auto", f"dataset.path={episodes}", f"dataset.cache_dir={tmp_path / 'cache'}")
    quick = ("dataset.image_size=16", *SMALLEST_MODEL, "trainer.steps=1", "evaluation.shortcuts=false", "logger=local")
    ran = run_in(tmp_path / "run", *data, *quick, "closed_loop=none")
    assert ran.exit_code == 0, ran.message
    assert call("export", ran.folder, tmp_path / "out") == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert f"- Recordings: `{episodes.name}`" in text
    assert re.search(r"- Format: \d+ HDF5 files, recognised by content", text)
    assert str(episodes.parent) not in text


def test_a_card_says_unit_and_kind_of_each_signal_and_the_rate() -> None:
    signals = (known_signal("linear_x"), Signal(name="gripper", kind="binary"), Signal(name="joint"))
    spec = Spec(actions=signals, state=signals[1:], cameras=(Camera(name="front", rows=8, columns=8),), rate_hz=12.5)
    lines = card_of(spec).splitlines()
    assert "- Actions: linear_x (m/s, velocity), gripper (binary), joint (unit unknown)" in lines
    assert "- State: gripper (binary), joint (unit unknown)" in lines
    assert "- Rate: 12.5 frames a second, and as many commands" in lines
    assert "- Rate: not recorded" in card_of(replace(spec, rate_hz=None)).splitlines()


def card_of(spec: Spec) -> str:
    """Return the card of a policy of which nothing else is known."""
    description = PolicyDescription(
        spec=spec,
        model={"backbone": {"_target_": "a.Small"}, "head": {"_target_": "a.Plain"}},
        image=ImageOptions(size=(8, 8), resize="direct", channel_order="rgb"),
        window_size=2,
        fwd_pred_next_n=2,
        padding="both",
        instructions=("Go on",),
        world=None,
    )
    records = Records(manifest={}, summary={}, config={}, split={}, training={})
    return model_card(description, None, records, trust=()).text


def test_the_code_on_a_card_runs(driven: Ran, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("export", driven.folder, out) == 0
    code = re.search(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    assert code
    known: dict[str, Any] = {"image": np.zeros((16, 16, 3), np.uint8)}
    exec(code[1].replace("FOLDER", str(out)), known)
    assert known["chunk"].shape == (10, 2)


def test_a_card_leaves_out_what_was_measured_on_other_weights(driven: Ran, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(driven.folder, run)

    best = find_checkpoint(run, "best").rename(run / "checkpoints" / "best-00000001")

    def earlier(training: dict[str, Any]) -> None:
        training.update(step=1, evaluated_at=1)
        training["latest"]["val/rmse"] = 0.1234

    edited(best / "training.json", earlier)
    assert call("export", run, tmp_path / "out", "--checkpoint", "best") == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| all actions | 0.1234 |" in text
    assert "- Steps: 1, of 2 planned" in text
    assert "| drives |" not in text
    assert "What the policy acts on" not in text
    assert "belong to other weights and are left out" in text
    assert "Whether it drives was not measured" in text


def test_a_checkpoint_without_its_run_has_a_shorter_card(driven: Ran, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(find_checkpoint(driven.folder), alone)
    (alone / "training.json").unlink()
    seal(alone)
    assert call("export", alone, tmp_path / "out") == 0
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert "## Results" not in card.text
    assert "## Load" in card.text
    np.testing.assert_array_equal(actions_of(tmp_path / "out"), actions_of(driven.folder))


def test_a_base_of_another_name_is_taken_where_it_is_the_same(smolvlm: Path, vlms: Path, tmp_path: Path) -> None:
    shutil.copytree(vlms / "smolvlm", tmp_path / "copy")
    np.testing.assert_array_equal(actions_of(smolvlm, base=tmp_path / "copy"), actions_of(smolvlm))


def test_another_base_is_refused_by_name_and_hash(
    smolvlm: Path, vlms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_tiny_vlm("smolvlm", tmp_path / "other", seed=1)
    hashes = r"\(hash (?P<own>[0-9a-f]{16})\); .* has hash (?!(?P=own))[0-9a-f]{16}"
    refusal = f"was trained on {re.escape(str(vlms / 'smolvlm'))} {hashes} and is another model"
    with pytest.raises(UserError, match=refusal) as refused:
        Policy.load(smolvlm, base=other)
    assert str(other) in str(refused.value)
    for command in (("rollout",), ("serve",), ("export", tmp_path / "out")):
        name, *rest = command
        assert call(name, smolvlm, *rest, "--base", other) == 1
        assert re.search(refusal, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_base_that_is_not_here_can_be_named(smolvlm: Path, vlms: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(smolvlm, run)
    policy = find_checkpoint(run) / "policy.json"
    edited(policy, lambda content: content["model"]["backbone"].update(weights="/nowhere/smolvlm"))
    with pytest.raises(UserError, match=r"/nowhere/smolvlm: no such folder.* or --base FOLDER") as refused:
        Policy.load(run)
    assert str(refused.value).count(str(run)) == 1
    np.testing.assert_array_equal(actions_of(run, base=vlms / "smolvlm"), actions_of(smolvlm))
    with pytest.raises(UserError, match=r"/nowhere/else: no such folder") as refused:
        Policy.load(run, base="/nowhere/else")
    assert "--base" not in str(refused.value)


def test_a_base_of_the_hub_is_named_and_no_folder_of_this_machine(smolvlm: Path, vlms: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(smolvlm, run)
    policy = find_checkpoint(run) / "policy.json"
    edited(policy, lambda content: content["model"]["backbone"].update(weights="owner/smolvlm"))

    assert call("export", run, out, "--base", vlms / "smolvlm") == 0

    assert ModelCard.load(out / "README.md").data.to_dict()["base_model"] == "owner/smolvlm"
    assert strict_json((out / "policy.json").read_text())["model"]["backbone"]["weights"] == "owner/smolvlm"
    config = strict_json((out / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "owner/smolvlm"
    for name in files_of(out):
        assert str(vlms).encode() not in (out / name).read_bytes(), name
    np.testing.assert_array_equal(actions_of(out, base=vlms / "smolvlm"), actions_of(smolvlm))


def test_a_base_that_is_a_folder_is_said_to_be_one(
    smolvlm: Path, vlms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("export", smolvlm, tmp_path / "out") == 0
    assert f"policy.json names a folder of this machine, {vlms / 'smolvlm'}" in capsys.readouterr().out
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert "base_model" not in card.data.to_dict()
    assert 'Policy.load("FOLDER", base="BASE")' in card.text
    assert str(vlms) not in card.text


@pytest.mark.parametrize("command", ["rollout", "serve"])
def test_a_base_has_no_place_in_a_compact_policy(
    command: str, driven: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command, driven.folder, "--base", tmp_path) == 1
    assert f"base={tmp_path}: has no effect, as this policy builds on no pretrained" in capsys.readouterr().err


@pytest.mark.parametrize("tuning", slow_but(["full", "frozen"], ["full"]))
def test_without_an_adapter_there_is_nothing_to_merge(
    tuning: str, vlms: Path, tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [option for option in tiny_model(vlms / "smolvlm") if "tuning" not in option]
    run = train(tmp_path / "run", tiny, *model, f"model/backbone/tuning={tuning}")
    assert call("export", run, tmp_path / "merged", "--merge") == 1
    assert "--merge: this policy has no adapter to merge: what it has learnt" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()

    assert call("export", run, tmp_path / "out") == 0
    np.testing.assert_array_equal(actions_of(tmp_path / "out"), actions_of(run))


def test_a_compact_policy_has_nothing_to_merge(driven: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("export", driven.folder, tmp_path / "out", "--merge") == 1
    assert "no adapter to merge: it builds on no pretrained weights" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_merged_folder_is_not_exported_again(
    smolvlm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("export", smolvlm, tmp_path / "out", "--merge") == 0
    assert call("export", tmp_path / "out", tmp_path / "again") == 1
    assert "was exported with --merge and is whole; copy it as it is" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_an_exported_adapter_is_merged_later(smolvlm: Path, tmp_path: Path) -> None:
    assert call("export", smolvlm, tmp_path / "out") == 0
    assert call("export", tmp_path / "out", tmp_path / "merged", "--merge") == 0
    np.testing.assert_allclose(actions_of(tmp_path / "merged"), actions_of(smolvlm), atol=1e-4)


def test_a_merged_base_that_was_changed_is_refused(smolvlm: Path, tmp_path: Path) -> None:
    assert call("export", smolvlm, tmp_path / "out", "--merge") == 0
    path = tmp_path / "out" / "base" / "model.safetensors"
    state = load_file(path)
    name = next(iter(state))
    save_file({**state, name: torch.ones_like(state[name])}, path, {"format": "pt"})
    with pytest.raises(UserError, match=r"is damaged: base/model\.safetensors has other content"):
        Policy.load(tmp_path / "out")
    seal(tmp_path / "out")
    with pytest.raises(UserError, match="is another model"):
        Policy.load(tmp_path / "out")


def test_nothing_is_overwritten_by_an_export(driven: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        assert call("export", driven.folder, out) == 1
        assert f"{out}: exists and is no empty folder; give a new one" in capsys.readouterr().err
    assert files_of(tmp_path) == {"thesis.txt"}


def test_a_run_without_a_checkpoint_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    assert call("export", tmp_path / "run", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / 'run'}: holds no checkpoint")
    assert not (tmp_path / "out").exists()
