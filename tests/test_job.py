"""One run: the same seed gives the same curves, the folder says what happened, and a failure is recorded as one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.numpy import load_file
from tiny_runs import SAMPLERS, Ran, forked, run_in, run_py

from mobile_vla.data.episode_writer import write_episode
from mobile_vla.policy.checkpoint_folder import find_checkpoint

SUMMARY_KEYS = {
    *("status", "steps", "samples_seen", "wall_s", "data_wait_s", "commit", "data_hash", "split_hash"),
    *("checkpoint/last", "checkpoint/best", "best/val/rmse", "train/loss", "train/rmse", "val/loss", "val/rmse"),
    *("val/rmse/linear_x", "val/rmse/horizon_1", "val/rmse/scenario_mean", "val/rmse/critical", "probe/rmse"),
    *(f"baseline/{name}/rmse" for name in ("mean", "hold_last", "time_lookup", "scenario_time_lookup")),
    *(f"baseline/{name}/rmse/linear_y" for name in ("mean", "hold_last", "time_lookup", "scenario_time_lookup")),
    *("sampler/coverage", "sampler/duplicates", "sampler/episodes_per_batch", "sampler/scenarios_per_batch"),
    *("sampler/effective_sample_size", "sampler/padded", "sampler/score_age", "sampler/phase_0"),
    *("sampler/share/1box_hori_left", "sampler/target/1box_hori_left", "skipped_episodes"),
}
"""Names that issue 2 promises to others, and those of the metrics it lists."""


@pytest.fixture(scope="module")
def ran(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run of 20 steps, long enough to see windows again."""
    folder = tmp_path_factory.mktemp("job") / "run"
    return run_in(folder, *tiny, "trainer.steps=20", "trainer.eval_every=4", "trainer.learning_rate=0.02")


def test_a_run_ends_well(ran: Ran) -> None:
    assert ran.exit_code == 0
    assert ran.summary["status"] == "done"
    assert ran.summary["steps"] == 20
    assert ran.summary["samples_seen"] == 160
    assert not (ran.folder / "traceback.txt").exists()


def test_the_summary_is_flat_and_has_every_promised_name(ran: Ran) -> None:
    assert ran.summary.keys() >= SUMMARY_KEYS
    assert not any(isinstance(value, dict | list) for value in ran.summary.values())


def test_every_row_is_flat_and_says_where_it_stands(ran: Ran) -> None:
    assert [row["step"] for row in ran.rows] == list(range(21))
    for row in ran.rows:
        assert row["samples_seen"] == 8 * row["step"]
        assert not any(isinstance(value, dict | list | str) for value in row.values())


def test_the_last_rows_and_the_summary_agree(ran: Ran) -> None:
    last = {key: value for key, value in ran.timeless_rows[-1].items() if key != "step"}
    assert {key: ran.summary[key] for key in last} == last


def test_the_best_checkpoint_is_that_of_the_lowest_val_rmse(ran: Ran) -> None:
    measured = {row["step"]: row["val/rmse"] for row in ran.rows if "val/rmse" in row}
    best = json.loads((Path(ran.summary["checkpoint/best"]) / "training.json").read_text())

    assert list(measured) == [0, 4, 8, 12, 16, 20]
    assert ran.summary["best/val/rmse"] == min(measured.values())
    assert measured[best["step"]] == min(measured.values())


def test_checkpoints_hold_arrays_as_safetensors_and_the_rest_as_json(ran: Ran) -> None:
    for name in ("last", "best"):
        folder = Path(ran.summary[f"checkpoint/{name}"])
        files = {path.name for path in folder.iterdir()}
        assert files == {
            "model.safetensors",
            "optimizer.safetensors",
            "arrays.safetensors",
            "training.json",
            "policy.json",
            "digests.json",
        }
    policy = json.loads((Path(ran.summary["checkpoint/last"]) / "policy.json").read_text())
    assert [signal["name"] for signal in policy["spec"]["actions"]] == ["linear_x", "linear_y"]
    assert policy["image"]["size"] == [16, 16]
    best = Path(ran.summary["checkpoint/best"]).name
    assert {path.name for path in (ran.folder / "checkpoints").iterdir()} == {best, "step-00000016", "step-00000020"}


def test_the_manifest_tells_code_data_and_choices(ran: Ran) -> None:
    manifest = json.loads((ran.folder / "manifest.json").read_text())

    assert manifest["choices"]["sampler"] == "shuffled"
    assert "trainer.steps=20" in manifest["overrides"]
    assert manifest["commit"] == ran.summary["commit"]
    assert manifest["data_hash"] == ran.summary["data_hash"]
    assert manifest["split_hash"] == json.loads((ran.folder / "split.json").read_text())["hash"]
    assert manifest["versions"]["torch"]
    assert manifest["parameters/total"] == ran.summary["parameters/total"]


def test_the_saved_config_gives_the_same_run_again(ran: Ran, tiny: tuple[str, ...], tmp_path: Path) -> None:
    saved = OmegaConf.load(ran.folder / "config.yaml")
    assert saved.trainer.steps == 20

    # Nothing of a run may hang on what was drawn from the global generators before it.
    torch.manual_seed(99)
    np.random.seed(99)
    again = run_in(tmp_path / "again", *tiny, "trainer.steps=20", "trainer.eval_every=4", "trainer.learning_rate=0.02")

    assert again.timeless_rows == ran.timeless_rows
    assert OmegaConf.load(again.folder / "config.yaml") == saved


def test_another_seed_gives_other_curves_on_the_same_split(ran: Ran, tiny: tuple[str, ...], tmp_path: Path) -> None:
    other = run_in(tmp_path / "other", *tiny, "trainer.steps=20", "trainer.learning_rate=0.02", "seed=1")

    assert other.rows[0]["val/rmse"] != ran.rows[0]["val/rmse"]
    assert other.summary["train/loss"] != ran.summary["train/loss"]
    assert other.summary["split_hash"] == ran.summary["split_hash"]
    assert other.summary["data_hash"] == ran.summary["data_hash"]


def test_training_learns_what_it_is_shown(tiny: tuple[str, ...], tmp_path: Path) -> None:
    overrides = ("trainer.steps=300", "trainer.eval_every=300", "trainer.log_every=100", "trainer.learning_rate=0.01")

    ran = run_in(tmp_path / "run", *tiny, *overrides)

    assert ran.rows[-1]["train/loss"] < 0.9 * ran.rows[1]["train/loss"]
    assert ran.rows[-1]["probe/rmse"] < ran.rows[0]["probe/rmse"]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_epochs_are_the_same_number_of_steps_for_every_sampler(
    sampler: str, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    without_steps = [override for override in tiny if not override.startswith("trainer.steps")]

    ran = run_in(tmp_path / "run", *without_steps, f"sampler={sampler}", "trainer.epochs=0.5", "trainer.eval_every=99")

    assert ran.exit_code == 0, ran.message
    num_windows = sum(1 for _ in load_file(find_checkpoint(ran.folder) / "arrays.safetensors")["scores/visits"])
    assert ran.summary["steps"] == int(np.ceil(0.5 * num_windows / 8))


def test_scenarios_that_are_held_out_are_measured_apart(tiny: tuple[str, ...], tmp_path: Path) -> None:
    ran = run_in(tmp_path / "run", *tiny, "dataset.unseen=[2box_vert_left]")

    split = json.loads((ran.folder / "split.json").read_text())
    assert len(split["unseen"]) == 4
    assert ran.summary["unseen/rmse"] > 0
    assert ran.summary["unseen/loss"] > 0
    assert "val/rmse/scenario_2box_vert_left" not in ran.summary
    assert "sampler/share/2box_vert_left" not in ran.summary


@pytest.mark.slow  # tests/tracking mirrors runs with every fault
def test_logging_to_wandb_offline_changes_nothing_else(whole: Ran, tiny: tuple[str, ...], tmp_path: Path) -> None:
    mirrored = run_in(tmp_path / "mirrored", *tiny, "logger=wandb")

    assert mirrored.exit_code == 0
    assert mirrored.timeless_rows == whole.timeless_rows
    assert any((mirrored.folder / "wandb").rglob("*.wandb"))


def test_a_loss_that_overflows_stops_the_run_and_names_its_windows(tiny: tuple[str, ...], tmp_path: Path) -> None:
    ran = run_in(tmp_path / "run", *tiny, "trainer.learning_rate=1e30", "trainer.eval_every=100", "trainer.steps=20")

    assert ran.exit_code == 1
    assert ran.message.startswith("error: step ")
    assert "the loss is not finite for 8 of 8 windows: " in ran.message
    assert "(episode_20251204_10" in ran.message
    assert "Window ids of the batch: [" in ran.message
    assert ran.summary["status"] == "failed"
    assert "the loss is not finite" in ran.summary["error"]
    assert "NonFiniteLossError" in (ran.folder / "traceback.txt").read_text()


def test_a_policy_that_diverged_is_never_the_best(tiny: tuple[str, ...], tmp_path: Path) -> None:
    ran = run_in(tmp_path / "run", *tiny, "trainer.learning_rate=1e30", "trainer.eval_every=1", "trainer.steps=20")

    measured = [row["val/rmse"] for row in ran.rows if "val/rmse" in row]
    best = json.loads((find_checkpoint(ran.folder, "best") / "training.json").read_text())
    assert None in measured, "the run was meant to diverge"
    assert best["best_error"] == min(value for value in measured if value is not None)


def test_a_user_error_is_one_plain_message(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_in(tmp_path / "run", *tiny, f"dataset.path={tmp_path / 'nowhere'}")

    assert ran.exit_code == 1
    assert ran.message.startswith(f"error: {tmp_path / 'nowhere'}: no such folder. ")
    assert "\n" not in ran.message
    assert "Traceback" not in capsys.readouterr().err
    assert ran.summary["status"] == "failed"
    assert ran.summary["error"] in ran.message
    assert "DataError" in (ran.folder / "traceback.txt").read_text()


def test_an_error_of_ours_shows_its_traceback_and_leaves_a_failed_run(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mobile_vla.run.job.data_report_of", lambda data: 1 / 0)

    ran = run_in(tmp_path / "run", *tiny)

    assert ran.exit_code == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert ran.summary["status"] == "failed"
    assert ran.summary["error"].startswith("ZeroDivisionError: ")
    assert "ZeroDivisionError" in (ran.folder / "traceback.txt").read_text()


def test_bad_episodes_stop_a_run_or_are_counted(episodes: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in episodes.iterdir():
        (mixed / path.name).symlink_to(path)
    for name in ("one", "two"):
        (mixed / f"episode_{name}.h5").write_bytes(b"not HDF5")

    stopped = run_in(tmp_path / "stopped", *tiny, f"dataset.path={mixed}")
    skipped = run_in(tmp_path / "skipped", *tiny, f"dataset.path={mixed}", "dataset.on_bad_episode=skip")

    assert stopped.exit_code == 1
    assert "2 episode file(s) cannot be used" in stopped.message
    assert "episode_one.h5" in stopped.message
    assert "episode_two.h5" in stopped.message
    assert skipped.exit_code == 0
    assert skipped.summary["skipped_episodes"] == 2


def test_a_warning_block_names_what_the_sampler_cannot_do(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(5):
        images = random.integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
        actions = random.normal(size=(7, 2)).astype(np.float32)
        name = f"episode_20251204_10101{index}_1box_hori_left"
        write_episode(folder / f"{name}.h5", images_FYXC=images, actions_FA=actions)

    run_in(tmp_path / "run", *tiny, f"dataset.path={folder}", "dataset.padding=none", "sampler=random_temporal")

    shown = " ".join(capsys.readouterr().out.split())
    warnings = shown.index("Warnings")
    assert "exactly one window" in shown[warnings:]
    assert "sampler=random_temporal cannot differ from shuffled on this data" in shown[warnings:]
    assert warnings < shown.index("step 0 of 4")


def test_a_run_may_stop_between_two_log_lines(tiny: tuple[str, ...], tmp_path: Path) -> None:
    ran = run_in(tmp_path / "run", *tiny, "trainer.stop_at_step=3", "trainer.log_every=2")

    assert ran.exit_code == 0
    assert ran.summary["status"] == "stopped"
    assert ran.summary["steps"] == 3
    assert ran.summary["samples_seen"] == 24


@pytest.mark.slow
def test_a_terminated_run_leaves_a_checkpoint_and_goes_on_from_it(tiny: tuple[str, ...], tmp_path: Path) -> None:
    settings = (*tiny, "trainer.steps=200", "trainer.eval_every=20")
    process = forked(lambda: run_py(f"hydra.run.dir={tmp_path / 'run'}", *settings)[0], cwd=tmp_path)
    for line in process.output:
        if "step 20 of" in line:
            os.kill(process.pid, signal.SIGTERM)
            break
    exit_code, _ = process.wait()

    stopped = Ran(folder=tmp_path / "run", exit_code=exit_code, message="")
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert stopped.summary["status"] == "stopped"
    steps = stopped.summary["steps"]
    assert steps >= 20
    assert stopped.summary["samples_seen"] == 8 * steps
    assert json.loads((find_checkpoint(stopped.folder) / "training.json").read_text())["step"] == steps

    resumed = run_in(stopped.folder, f"resume={stopped.folder}")
    whole = run_in(tmp_path / "whole", *settings)
    assert resumed.exit_code == 0, resumed.message
    assert resumed.summary["status"] == "done"
    assert resumed.timeless_rows == whole.timeless_rows
