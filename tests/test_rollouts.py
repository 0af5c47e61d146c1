"""A run ends with driving; the same checkpoint drives the same when asked again, and serves robots over the network."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import call
from tiny_runs import ROOT, SMALLEST_MODEL, Ran, run_in, strict_json

from mobile_vla.policy.checkpoint_folder import find_checkpoint
from mobile_vla.policy.policy import Policy
from mobile_vla.serving.client import PolicyClient

SUITES = ("seen", "unseen", "shifted", "looks")
NUM_EPISODES = 3


def sim_overrides(stores: Path) -> tuple[str, ...]:
    return (
        *("dataset.generator.num_episodes=8", "dataset.generator.image_size=16", "dataset.num_workers=0"),
        *(f"dataset.datasets_dir={stores}/datasets", f"dataset.cache_dir={stores}/cache", *SMALLEST_MODEL),
        *("trainer.steps=2", "trainer.eval_every=2", "logger=local", "evaluation.probe_windows=0"),
        *(f"closed_loop.episodes={NUM_EPISODES}", "closed_loop.videos=1"),
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def ran(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run on the embedded world."""
    ran = run_in(tmp_path_factory.mktemp("rollouts") / "run", *sim_overrides(stores))
    assert ran.exit_code == 0, ran.message
    return ran


def results_of(folder: Path) -> list[dict[str, object]]:
    return [strict_json(line) for line in (folder / "episode_results.jsonl").read_text().splitlines()]


def test_a_run_ends_with_driving_every_suite(ran: Ran) -> None:
    results = results_of(ran.folder)
    assert [(r["suite"], r["index"]) for r in results] == [(s, i) for s in SUITES for i in range(NUM_EPISODES)]
    for suite in SUITES:
        mine = [result for result in results if result["suite"] == suite]
        summary = {
            key.removeprefix(f"closed_loop/{suite}/"): value
            for key, value in ran.summary.items()
            if key.startswith(f"closed_loop/{suite}/")
        }
        assert summary["success_rate"] == sum(bool(result["success"]) for result in mine) / NUM_EPISODES
        assert summary["success_low"] <= summary["success_rate"] <= summary["success_high"]
        rates = [summary[f"{name}_rate"] for name in ("success", "collision", "wrong_target", "left_room", "timeout")]
        assert sum(rates) == pytest.approx(1)
        assert summary["final_error_m"] == pytest.approx(np.mean([result["final_error_m"] for result in mine]))
        assert re.fullmatch("[0-9a-f]{16}", summary["states"])


def test_videos_lie_in_the_run_folder_and_say_how_the_drive_ended(ran: Ran) -> None:
    videos = sorted((ran.folder / "videos").iterdir())
    assert {path.name.split("-")[0] for path in videos} == set(SUITES)
    by_key = {(r["suite"], r["index"]): r for r in results_of(ran.folder)}
    for path in videos:
        suite, index, ending = path.stem.split("-")
        result = by_key[suite, int(index)]
        assert ending == (result["failure"] or "success")
        with Image.open(path) as picture:
            assert picture.n_frames >= 2  # pyright: ignore[reportAttributeAccessIssue]
    assert ran.summary["closed_loop/videos"] == str(ran.folder / "videos")


def test_a_run_says_what_its_policy_acts_on(ran: Ran) -> None:
    assert "instruction" in ran.summary["shortcut/verdict"]
    assert isinstance(ran.summary["shortcut/images_mean/rmse_change"], float)
    assert isinstance(ran.summary["shortcut/instruction_swapped/side_change"], float)


def test_the_checkpoint_knows_the_world_it_was_taught_in(ran: Ran) -> None:
    description = json.loads((find_checkpoint(ran.folder) / "policy.json").read_text())
    split = json.loads((ran.folder / "split.json").read_text())
    names = {re.sub(r"^episode_\d+_\d+_", "", name) for name in split["train"]}
    assert description["world"] == {"image_size": 16, "trained": sorted(names), "held_out": []}


def test_another_seed_meets_the_same_states(ran: Ran, stores: Path, tmp_path: Path) -> None:
    other = run_in(tmp_path / "other", *sim_overrides(stores), "seed=1", "closed_loop.videos=0")
    for suite in SUITES:
        assert other.summary[f"closed_loop/{suite}/states"] == ran.summary[f"closed_loop/{suite}/states"]
    assert not (other.folder / "videos").exists()


@pytest.mark.slow
def test_what_is_held_out_of_training_is_driven_as_unseen(stores: Path, tmp_path: Path) -> None:
    held_out = ("dataset.unseen=['distance=far']", "closed_loop.episodes=40", "closed_loop.max_steps=1")
    ran = run_in(tmp_path / "run", *sim_overrides(stores), *held_out, "closed_loop.videos=0")
    distances = {suite: set() for suite in SUITES}
    for result in results_of(ran.folder):
        distances[str(result["suite"])].add(str(result["scenario"]).rsplit("_", 1)[1])
    assert distances["unseen"] == {"far", "beyond"}
    assert "far" not in distances["seen"]


def test_the_closed_loop_can_be_left_out(stores: Path, tmp_path: Path) -> None:
    ran = run_in(tmp_path / "run", *sim_overrides(stores)[:-2], "closed_loop=none", "evaluation.shortcuts=false")
    assert ran.summary["status"] == "done"
    assert not any(key.startswith(("closed_loop/", "shortcut/")) for key in ran.summary)
    assert not (ran.folder / "episode_results.jsonl").exists()


def test_a_stopped_run_is_not_driven_and_drives_when_it_is_done(ran: Ran, stores: Path, tmp_path: Path) -> None:
    stopped = run_in(tmp_path / "run", *sim_overrides(stores), "trainer.stop_at_step=1")
    assert not any(key.startswith("closed_loop/") for key in stopped.summary)

    resumed = run_in(stopped.folder, f"resume={stopped.folder}")

    assert results_of(resumed.folder) == results_of(ran.folder)


@pytest.mark.slow
def test_driving_may_change_where_a_run_goes_on(stores: Path, tmp_path: Path) -> None:
    done = run_in(tmp_path / "run", *sim_overrides(stores), "closed_loop.videos=0")
    again = run_in(done.folder, f"resume={done.folder}", "closed_loop.episodes=2", "closed_loop.videos=0")
    assert again.exit_code == 0, again.message
    assert len(results_of(again.folder)) == 4 * 2
    assert again.summary["val/rmse"] == done.summary["val/rmse"]


def test_a_suite_without_room_is_refused_before_training(stores: Path, tmp_path: Path) -> None:
    narrow = "{_target_: mobile_vla.sim.scene.Placement, box_x_m: [0.2, 0.2], box_shift_m: [0, 0], box_gap_m: [0, 0],"
    narrow += " bottle_y_m: [0.6, 0.7], bottle_jitter_m: [0, 0]}"
    suite = (
        "+closed_loop.suites.seen.changed.placement=[narrow]",
        f"+closed_loop.suites.seen.placements.narrow={narrow}",
    )
    refused = run_in(tmp_path / "run", *sim_overrides(stores), *suite)
    assert refused.exit_code == 1
    assert "no scene with room to stand before both bottles" in refused.message
    assert refused.summary["steps"] == 0


def test_data_of_another_world_are_refused(tiny: tuple[str, ...], tmp_path: Path) -> None:
    refused = run_in(
        tmp_path / "run", *tiny, "dataset.world=sim", "dataset.grammars.boxes=x", "dataset.grammars.bare=.*"
    )
    assert refused.exit_code == 1
    assert "dataset.world=sim" in refused.message
    assert "does not name a scenario of the embedded world" in refused.message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "dataset.actions=[linear_x]",
            "commanded by linear_x, linear_y: linear_y is missing",
        ),
        ("closed_loop.execution.count=11", "closed_loop.execution.count=11: the policy predicts 10 actions at a time"),
    ],
)
def test_what_could_not_be_driven_is_not_trained(override: str, message: str, stores: Path, tmp_path: Path) -> None:
    refused = run_in(tmp_path / "run", *sim_overrides(stores), override)
    assert refused.exit_code == 1
    assert message in refused.message
    assert refused.summary["steps"] == 0


def test_a_checkpoint_drives_again_as_it_did(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    before = (ran.folder / "summary.json").read_bytes(), (ran.folder / "episode_results.jsonl").read_bytes()

    assert call("rollout", ran.folder, f"closed_loop.episodes={NUM_EPISODES}", "closed_loop.videos=1") == 0

    shown = capsys.readouterr().out
    (out,) = (ran.folder / "rollouts").iterdir()
    assert results_of(out) == results_of(ran.folder)
    summary = strict_json((out / "summary.json").read_text())
    assert summary.pop("driver") == "policy"
    assert summary.pop("checkpoint") == str(find_checkpoint(ran.folder))
    assert summary.pop("overrides")[0] == f"closed_loop.episodes={NUM_EPISODES}"
    assert summary == {key: ran.summary[key] for key in summary}
    assert before == ((ran.folder / "summary.json").read_bytes(), (ran.folder / "episode_results.jsonl").read_bytes())
    for suite in SUITES:
        assert f"{suite} " in shown
    assert f"{4 * NUM_EPISODES} drives in" in shown


def test_more_episodes_begin_with_the_same(ran: Ran, tmp_path: Path) -> None:
    assert call("rollout", ran.folder, "--suite", "unseen", "--episodes", "5", "--out", tmp_path / "out") == 0
    first = [result for result in results_of(ran.folder) if result["suite"] == "unseen"]
    assert len(results_of(tmp_path / "out")) == 5
    for more, few in zip(results_of(tmp_path / "out"), first, strict=False):  # larger batches round otherwise
        assert more == {
            key: pytest.approx(value, rel=1e-3) if isinstance(value, float) else value for key, value in few.items()
        }


@pytest.mark.slow
def test_the_expert_drives_every_suite_and_chance_does_not(ran: Ran, tmp_path: Path) -> None:
    rates = {}
    for driver in ("expert", "chance", "no_instruction"):
        out = tmp_path / driver
        options = ("--driver", driver, "--episodes", "6", "--out", out, "closed_loop.videos=0")
        assert call("rollout", ran.folder, *options) == 0
        summary = strict_json((out / "summary.json").read_text())
        rates[driver] = [summary[f"closed_loop/{suite}/success_rate"] for suite in SUITES]
    assert rates["expert"] == [1.0] * 4
    assert rates["chance"] == [0.0] * 4
    assert max(rates["no_instruction"]) <= 0.55


def test_a_suite_of_ones_own_is_a_file(ran: Ran, tmp_path: Path) -> None:
    suite = tmp_path / "three_boxes.yaml"
    suite.write_text("seed: 5\nchanged: {num_boxes: [3], side: [left]}\n")
    assert call("rollout", ran.folder, "--suite", suite, "--episodes", "4", "--out", tmp_path / "out") == 0
    results = results_of(tmp_path / "out")
    assert {result["suite"] for result in results} == {"three_boxes"}
    assert all(re.match("3box_.*_left_", str(result["scenario"])) for result in results)


def test_other_ways_to_execute_are_options(ran: Ran, tmp_path: Path) -> None:
    def drive(name: str, *overrides: str) -> list[dict[str, object]]:
        assert call("rollout", ran.folder, *overrides, "--suite", "seen", "--out", tmp_path / name) == 0
        return results_of(tmp_path / name)

    settings = ("closed_loop.episodes=4", "closed_loop.videos=0")
    first = drive("first", *settings)
    several = drive("several", *settings, "closed_loop.execution.count=4")
    ensemble = drive("ensemble", *settings, "closed_loop/execution=temporal_ensemble")
    lengths = [[result["command_change_m_s"] for result in results] for results in (first, several, ensemble)]
    assert lengths[0] != lengths[1] != lengths[2] != lengths[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--suite", "nowhere"),
            "--suite nowhere: no such suite and no such file; expected one of looks, seen, shifted",
        ),
        (("--episodes", "0"), "closed_loop.episodes: 0"),
        (("closed_loop.typo=1",), "typo"),
        (("model.head.loss=huber", "seed=3"), "model.head.loss=huber, seed=3: has no effect on a rollout"),
        (("--device", "cuda"), "device=cuda: not usable here"),
        (("closed_loop.execution.count=11", "--suite", "seen"), "the policy predicts 10 actions at a time"),
    ],
)
def test_a_wrong_rollout_is_refused_in_words(
    arguments: tuple[str, ...], message: str, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("rollout", ran.folder, *arguments, "--out", tmp_path) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said


ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcde", "bcdef", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ALIASES, "line 5: holds more than 20,000 values with its aliases"),
        ("changed: &c {side: *c}", "line 1: *c is inside the value that it repeats"),
        ("mjcf: ${oc.env:HOME}", "line 1: '${oc.env:HOME}' would be replaced"),
        ("looks: {_target_: os.system}", "'os.system'"),
        ("placements: {a: {_target_: mobile_vla.sampling.strategies.static_scores.static_scores}}", "static_scores"),
    ],
)
def test_a_suite_of_somebody_elses_does_no_harm(
    content: str, message: str, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(content)
    assert call("rollout", ran.folder, "--suite", path, "--out", tmp_path / "out") == 1
    shown = capsys.readouterr().err
    assert f"--suite {path}: cannot be read as options of a suite: {path}" in shown
    assert message in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["[1, 2]", "seed: ["])
def test_a_file_that_is_no_suite_is_named(
    content: str, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(content)
    assert call("rollout", ran.folder, "--suite", path, "--out", tmp_path / "out") == 1
    assert f"--suite {path}: cannot be read as options of a suite" in capsys.readouterr().err


def test_nothing_is_overwritten(ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    precious = tmp_path / "videos" / "wedding.mp4"
    precious.parent.mkdir()
    precious.write_text("precious")
    assert call("rollout", ran.folder, "--suite", "seen", "--out", tmp_path) == 1
    assert "is not empty; give a new folder" in capsys.readouterr().err
    assert precious.read_text() == "precious"


def test_an_unknown_option_is_no_override(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("rollout", ran.folder, "--episode", "3", "--typo") == 2
    assert "unrecognized arguments: --typo" in capsys.readouterr().err


def test_a_policy_of_another_world_is_not_driven(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in(tmp_path / "run", *tiny)
    assert call("rollout", tmp_path / "run") == 1
    assert "was not trained on recordings of the embedded world" in capsys.readouterr().err


@pytest.mark.slow
def test_serve_answers_a_robot_and_ends_with_figures(ran: Ran) -> None:
    command = [sys.executable, "-m", "mobile_vla", "serve", str(ran.folder), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = re.search(r"ws://\S+?(?=[,\s])", server.stdout.readline())
            assert url, "no address"
            policy = Policy.load(ran.folder)
            images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
            with PolicyClient(url[0]) as robot:
                assert [signal["name"] for signal in robot.metadata["spec"]["actions"]] == ["linear_x", "linear_y"]
                for image in images:
                    answer = robot.act(image, "go left")
                    np.testing.assert_allclose(answer, policy.act(image, "go left"), atol=1e-5)
            server.send_signal(signal.SIGINT)
            rest = server.communicate(timeout=20)[0]
        finally:
            server.kill()
    assert server.returncode == 0
    assert "3 requests" in rest
    assert "latency median" in rest
