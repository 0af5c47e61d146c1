"""Hold the errors of single windows against the RMSE they must add up to, and the hardest against a plain search."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_episodes import law, made_episode, made_reader
from made_policies import K, made_policy, sees_nothing
from made_scales import made_scale
from PIL import Image
from tiny_runs import Ran, run_in, strict_json

from mobile_vla.data.batches import WindowReader
from mobile_vla.data.windows import Padding
from mobile_vla.evaluation.hardest import APART, hardest_windows, history_strip, write_hardest
from mobile_vla.evaluation.offline import Evaluation, Predictions
from mobile_vla.evaluation.window_errors import WindowErrors, measure_windows, write_window_errors
from mobile_vla.policy.model import Model

NAMES = ("linear_x", "angular_z")
HISTORY = 3

Line = Mapping[str, str]


def reader_of(lengths: Sequence[int], *, padding: Padding = "both") -> WindowReader:
    """Return the windows of episodes of two scenarios and two tasks."""
    episodes = [
        made_episode(i, num_frames=n, scenario=f"scenario_{i % 2}", fields={"task": ("red", "blue")[i % 3 == 0]})
        for i, n in enumerate(lengths)
    ]
    return made_reader(episodes, window_size=HISTORY, fwd_pred_next_n=K, padding=padding, action_names=NAMES)


def standing_still() -> Model:
    """Return a policy that says 0 to everything: its errors are the actions themselves."""
    return made_policy(sees_nothing, lambda features: torch.zeros(*features.shape[:2], K, len(NAMES)))


def lines_of(path: Path) -> list[Line]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def rmse_of(lines: Sequence[Line]) -> float:
    """Return the RMSE that lines of ``val_windows.csv`` add up to."""
    total = math.fsum(float(line["squared_error"]) for line in lines)
    return math.sqrt(total / sum(int(line["num_targets"]) for line in lines))


def assert_adds_up(lines: Sequence[Line], metrics: Mapping[str, float]) -> None:
    """Check the overall RMSE and that of every phase, scenario and task that ``metrics`` name."""
    assert rmse_of(lines) == pytest.approx(metrics["val/rmse"], rel=1e-6)
    assert np.mean([float(line["loss"]) for line in lines]) == pytest.approx(metrics["val/loss"], rel=1e-6)
    for column in ("phase", "scenario", "task"):
        parts = defaultdict(list)
        for line in lines:
            parts[f"val/rmse/{column}_{line[column]}"].append(line)
        named = {key for key in metrics if key.startswith(f"val/rmse/{column}_")} - {"val/rmse/scenario_mean"}
        assert named <= set(parts)
        assert named or column == "task"
        for key in named:
            assert rmse_of(parts[key]) == pytest.approx(metrics[key], rel=1e-6), key


@pytest.mark.parametrize("padding", ["none", "end", "both"])
def test_the_lines_add_up_to_every_slice_of_the_evaluation(padding: Padding, tmp_path: Path) -> None:
    reader = reader_of([9, 14, 11, 8, 12], padding=padding)
    model = standing_still()
    options = Evaluation(batch_size=7, probe_windows=0, critical_threshold=0.5, shortcuts=False)
    metrics = options.measure(model, {"val": reader, "train": reader}, scale=made_scale(NAMES), split_seed=0)

    write_window_errors(measure_windows(model, reader, batch_size=5, scale=made_scale(NAMES)), tmp_path / "windows.csv")

    lines = lines_of(tmp_path / "windows.csv")
    assert len(lines) == len(reader.windows)
    assert {"val/rmse/task_red", "val/rmse/task_blue"} <= set(metrics)
    assert_adds_up(lines, metrics)


def test_a_line_tells_its_window_and_its_own_error(tmp_path: Path) -> None:
    # Episode i, frame f has the actions (i, -f) here; where nothing is predicted they are the errors.
    lengths = [6, 9]
    write_window_errors(
        measure_windows(standing_still(), reader_of(lengths), batch_size=4, scale=made_scale(NAMES)),
        tmp_path / "windows.csv",
    )

    lines = lines_of(tmp_path / "windows.csv")
    expected = []
    for index, length in enumerate(lengths):
        for frame in range(length):
            ahead = range(frame, min(frame + K, length))
            expected.append(
                {
                    "episode": f"episode_{index:03d}",
                    "frame": str(frame),
                    "scenario": f"scenario_{index}",
                    "task": ("red", "blue")[index == 0],
                    "phase": str(min(int(10 * frame / (length - 1) + 1e-9), 9)),
                    "num_targets": str(2 * len(ahead)),
                    "squared_error": sum(index**2 + f**2 for f in ahead),
                }
            )
    assert [{**line, "squared_error": float(line["squared_error"]), "loss": ""} for line in lines] == [
        {**line, "squared_error": pytest.approx(line["squared_error"]), "loss": ""} for line in expected
    ]


def test_the_model_is_measured_in_evaluation_mode_and_left_as_it_was() -> None:
    modes = []
    model = made_policy(
        sees_nothing,
        lambda features: modes.append(model.training) or torch.zeros(*features.shape[:2], K, len(NAMES)),
    ).train()

    measure_windows(model, reader_of([9, 9]), batch_size=4, scale=made_scale(NAMES))

    assert set(modes) == {False}
    assert model.training


def errors_of(reader: WindowReader, squared_error_N: np.ndarray) -> WindowErrors:
    targets = reader.current_targets()
    count = len(reader.windows)
    return WindowErrors(
        windows=reader.windows,
        targets=targets,
        predictions=Predictions(
            loss_N=np.zeros(count, np.float32), actions_NKA=np.zeros((count, K, len(NAMES)), np.float32)
        ),
        squared_error_N=squared_error_N,
        num_targets_N=targets.mask_NK.sum(1) * len(NAMES),
    )


READER = reader_of([9, 14, 20, 2])


@law
@given(
    squared_error_N=arrays(np.float64, len(READER.windows), elements=st.floats(0, 9) | st.just(math.nan)),
    count=st.integers(1, 30),
)
def test_the_hardest_are_the_worst_that_are_not_beside_a_worse_one(squared_error_N: np.ndarray, count: int) -> None:
    errors = errors_of(READER, squared_error_N)
    chosen = hardest_windows(errors, count=count)

    hardness = np.nan_to_num(errors.rmse, nan=np.inf)
    windows = READER.windows

    def is_beside(a: int, b: int) -> bool:
        return bool(windows.episode[a] == windows.episode[b] and abs(windows.frame[a] - windows.frame[b]) <= APART)

    assert 1 <= len(chosen) <= count
    assert [hardness[c] for c in chosen] == sorted((hardness[c] for c in chosen), reverse=True)
    assert not any(is_beside(a, b) for i, a in enumerate(chosen) for b in chosen[:i])
    # Whoever was left out is no harder than the last one, or stands beside one that is at least as hard.
    is_full = len(chosen) == count
    for row in set(range(len(windows))) - set(chosen):
        is_easier = is_full and hardness[row] <= hardness[chosen[-1]]
        assert is_easier or any(is_beside(row, c) and hardness[c] >= hardness[row] for c in chosen)


def test_the_strip_is_the_history_from_left_to_right_and_black_where_there_was_none(tmp_path: Path) -> None:
    # A frame has the colour (1 + its episode, 1 + its number, 255) here.
    batch = READER.gather(np.array([1]))
    pixels = np.asarray(history_strip(batch.images_BTVCYX[0].numpy()))
    assert pixels.shape == (2, 2 * HISTORY, 3)
    assert pixels[0, ::2].tolist() == [[0, 0, 0], [1, 1, 255], [1, 2, 255]]

    tall = np.zeros((HISTORY, 1, 3, 256, 320), np.uint8)
    assert history_strip(tall).size == (HISTORY * 160, 128)


def test_a_strip_has_a_row_for_each_camera() -> None:
    images_TVCYX = np.arange(HISTORY * 2 * 3, dtype=np.uint8).reshape(HISTORY, 2, 3, 1, 1) * np.ones((2, 4), np.uint8)
    pixels = np.asarray(history_strip(images_TVCYX))
    assert pixels.shape == (2 * 2, HISTORY * 4, 3)
    for t in range(HISTORY):
        for camera in range(2):
            assert (pixels[2 * camera : 2 * camera + 2, 4 * t : 4 * t + 4] == images_TVCYX[t, camera, :, 0, 0]).all()

    tall = np.zeros((HISTORY, 2, 3, 256, 320), np.uint8)
    assert history_strip(tall).size == (HISTORY * 160, 2 * 128)


def test_what_is_not_finite_or_not_there_is_null(tmp_path: Path) -> None:
    squared_error_N = np.zeros(len(READER.windows))
    squared_error_N[8] = np.nan  # the last frame of the first episode: one target is left
    errors = errors_of(READER, squared_error_N)
    errors.predictions.actions_NKA[8, 0, 1] = np.inf
    (tmp_path / "hardest").mkdir()
    (tmp_path / "hardest" / "stale.jpg").write_bytes(b"")

    write_hardest(errors, READER, action_names=NAMES, folder=tmp_path)

    entries = strict_json((tmp_path / "hardest.json").read_text())
    first = entries[0]
    assert (first["episode"], first["frame"], first["rmse"]) == ("episode_000", 8, None)
    assert first["target"] == [[0, -8], [None, None], [None, None], [None, None]]
    assert first["predicted"] == [[0, None], [0, 0], [0, 0], [0, 0]]
    assert sorted(p.name for p in (tmp_path / "hardest").iterdir()) == sorted(Path(e["image"]).name for e in entries)


@pytest.fixture(scope="module")
def ran(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A finished run in mixed precision, whose records must be those of its own evaluation."""
    folder = tmp_path_factory.mktemp("windows") / "run"
    return run_in(folder, *tiny, "trainer.precision=bf16", "augmentation=all", "trainer.learning_rate=0.02")


def test_a_finished_run_records_what_its_summary_sums_up(ran: Ran) -> None:
    assert ran.exit_code == 0, ran.message
    lines = lines_of(ran.folder / "val_windows.csv")
    split = json.loads((ran.folder / "split.json").read_text())
    assert {line["episode"] for line in lines} == set(split["val"])
    assert_adds_up(lines, ran.summary)


def test_a_finished_run_shows_its_hardest_windows(ran: Ran) -> None:
    entries = strict_json((ran.folder / "hardest.json").read_text())
    by_window = {(line["episode"], int(line["frame"])): line for line in lines_of(ran.folder / "val_windows.csv")}
    assert 1 < len(entries) <= 12
    for entry in entries:
        line = by_window[entry["episode"], entry["frame"]]
        assert (entry["scenario"], str(entry["phase"])) == (line["scenario"], line["phase"])
        assert entry["rmse"] == pytest.approx(rmse_of([line]))
        assert entry["action_names"] == ["linear_x", "linear_y"]
        errors = [
            said - right
            for said_A, right_A in zip(entry["predicted"], entry["target"], strict=True)
            for said, right in zip(said_A, right_A, strict=True)
            if right is not None
        ]
        assert len(errors) == int(line["num_targets"])
        assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(entry["rmse"], rel=1e-5)
        with Image.open(ran.folder / entry["image"]) as image:
            assert (image.format, image.size) == ("JPEG", (3 * 16, 16))


def test_a_run_that_is_not_done_records_nothing_until_it_is(ran: Ran, tiny: tuple[str, ...], tmp_path: Path) -> None:
    overrides = (*tiny, "trainer.precision=bf16", "augmentation=all", "trainer.learning_rate=0.02")
    stopped = run_in(tmp_path / "run", *overrides, "trainer.stop_at_step=2")
    assert not list(stopped.folder.glob("*hardest*")) + list(stopped.folder.glob("*.csv"))

    resumed = run_in(stopped.folder, f"resume={stopped.folder}")
    assert resumed.exit_code == 0, resumed.message
    expected = (ran.folder / "val_windows.csv").read_text()
    assert (resumed.folder / "val_windows.csv").read_text() == expected

    for name in ("val_windows.csv", "hardest.json"):
        (resumed.folder / name).unlink()
    assert run_in(stopped.folder, f"resume={stopped.folder}").exit_code == 0
    assert (resumed.folder / "val_windows.csv").read_text() == expected
    assert (resumed.folder / "hardest.json").read_text() == (ran.folder / "hardest.json").read_text()
