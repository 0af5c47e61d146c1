"""Every option of every group composes and instantiates; every mistake in a config is named before work begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from tiny_runs import CONF, choose_sampler, compose_config, options_of, run_in

from mobile_vla import config
from mobile_vla.errors import ConfigError
from mobile_vla.run import build

GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir())
OPTIONS = [(group, option) for group in GROUPS for option in options_of(group)]
INNER_GROUPS = ("model/head", "model/head/history", "model/backbone/tuning")
INNER_OPTIONS = [(group, option) for group in INNER_GROUPS for option in options_of(group)]


def is_pretrained(group: str, option: str) -> bool:
    return group == "model/backbone/tuning" or (group == "model" and option != "compact")


def required(group: str, option: str, folder: Path) -> list[str]:
    """Return overrides that give what the option leaves to the user."""
    if option in ("auto", "h5", "donkeycar"):
        return [f"dataset.path={folder}"]
    if option == "pretrained":
        return [f"model.backbone.weights={folder}"]
    if group == "model/backbone/tuning":
        return ["model=pretrained", f"model.backbone.weights={folder}", "model.backbone.dtype=fp32"]
    return []


def errors_of(*overrides: str) -> str:
    """Return the message of a config that must be refused."""
    with pytest.raises(ConfigError) as refused:
        config.check_config(compose_config(overrides))
    return str(refused.value)


@pytest.mark.parametrize(
    ("group", "option"), [(g, o) for g, o in [*OPTIONS, *INNER_OPTIONS] if g == "dataset" or is_pretrained(g, o)]
)
def test_what_needs_data_or_weights_composes_and_passes_the_check_without_them(
    group: str, option: str, tmp_path: Path
) -> None:
    cfg = compose_config([f"{group}={option}", *required(group, option, tmp_path)])

    config.check_config(cfg)
    assert build.build_dataset(cfg).window_size == cfg.dataset.window_size


@pytest.mark.parametrize(
    ("group", "option"), [(g, o) for g, o in [*OPTIONS, *INNER_OPTIONS] if g != "dataset" and not is_pretrained(g, o)]
)
def test_every_other_option_passes_the_check_and_builds_a_run(group: str, option: str, tiny: tuple[str, ...]) -> None:
    # W&B's own logger, as an experiment may set its options; nothing is opened here.
    chosen = choose_sampler(option, tiny) if group == "sampler" else (f"{group}={option}",)
    cfg = compose_config([*tiny, "logger=wandb", *chosen])
    config.check_config(cfg)

    run = build.build_run(cfg)

    assert run.sampler.windows.episode_names == run.data.windows["train"].episode_names


@pytest.mark.parametrize(("group", "option"), [(g, o) for g, o in [*OPTIONS, *INNER_OPTIONS] if is_pretrained(g, o)])
def test_every_pretrained_option_builds_a_run(group: str, option: str, tiny: tuple[str, ...], vlms: Path) -> None:
    folder = vlms / (option.removesuffix("_lora") if option.endswith("_lora") else "llava")
    small = [o for o in tiny if not o.startswith("model.backbone.")]
    weights = [f"model.backbone.weights={folder}", *required(group, option, folder)]

    run = build.build_run(compose_config([*small, f"{group}={option}", *weights]))

    assert run.sampler.windows.episode_names == run.data.windows["train"].episode_names


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_says_what_it_is_for(group: str) -> None:
    for option in options_of(group):
        assert (CONF / group / f"{option}.yaml").read_text().startswith("# "), f"{group}/{option} has no comment"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "foo",
            1,
            "foo: unknown key; expected one of augmentation, closed_loop, dataset, evaluation, logger, model, resume",
        ),
        ("sampler.typo", 1, "sampler.typo: Shuffled has no such option; expected replacement"),
        ("trainer.lr", 1, "trainer.lr: Trainer has no such option; expected steps, epochs, batch_size"),
        ("model.head.depth", 1, "model.head.depth: RegressionHead has no such option; expected history, loss"),
        (
            "model.head.history.depth",
            1,
            "model.head.history.depth: LstmHistory has no such option; expected hidden_dim, num_layers",
        ),
        ("model.head.history.feature_dim", 3, "model.head.history.feature_dim: is set by the run; remove it"),
        ("dataset.instruction.language", "ko", "dataset.instruction.language: Instruction has no such option"),
        ("sampler.batch_size", 3, "sampler.batch_size: is set by the run; remove it"),
        ("augmentation.stream", 1, "augmentation.stream: is set by the run; remove it"),
        ("model.head.num_actions", 3, "model.head.num_actions: is set by the run; remove it"),
        (
            "sampler._target_",
            "mobile_vla.sampling.nowhere.Sampler",
            "sampler._target_: cannot import mobile_vla.sampling",
        ),
        ("sampler.replacement", "maybe", "sampler.replacement: 'maybe'; Input should be a valid boolean"),
        ("sampler.replacement", "no", "sampler.replacement: 'no'; Input should be a valid boolean"),
        ("sampler.replacement", 1, "sampler.replacement: 1; Input should be a valid boolean"),
        ("trainer.steps", "soon", "trainer.steps: 'soon'; Input should be a valid integer"),
        ("trainer.steps", "20", "trainer.steps: '20'; Input should be a valid integer"),
        ("trainer.steps", True, "trainer.steps: True; Input should be a valid integer"),
        ("trainer.steps", 0, "trainer.steps: 0; Input should be greater than 0"),
        ("trainer.steps", 2.5, "trainer.steps: 2.5; Input should be a valid integer"),
        ("trainer.batch_size", -1, "trainer.batch_size: -1; Input should be greater than 0"),
        ("trainer.epochs", 0, "trainer.epochs: 0; Input should be greater than 0"),
        ("trainer.learning_rate", None, "trainer.learning_rate: None; Input should be a valid number"),
        ("model.head.loss", "mae", "model.head.loss: 'mae'; Input should be 'mse', 'huber' or 'l1'"),
        (
            "model.normalization",
            "max",
            "model.normalization: 'max'; Input should be 'mean_std', 'min_max', 'quantile' or",
        ),
        ("model.backbone.channels", [4, 0, 4], "model.backbone.channels: [4, 0, 4]; Input should be greater than 0"),
        ("dataset.padding", "start", "dataset.padding: 'start'; Input should be 'none', 'end' or 'both'"),
        ("dataset.actions", 3, "dataset.actions: 3; "),
        ("dataset.image_size", [60], "dataset.image_size: [60]; "),
        (
            "dataset.instruction.order",
            ["tape"],
            "dataset.instruction.order: ['tape']; Input should be 'file', 'attribute'",
        ),
        ("dataset.on_bad_episode", "ignore", "dataset.on_bad_episode: 'ignore'; Input should be 'error' or 'skip'"),
        ("trainer.schedule", "linear", "trainer.schedule: 'linear'; expected an object with a _target_"),
        ("logger.wandb.mode", "loud", "logger.wandb.mode: 'loud'; Input should be 'auto', 'online' or 'offline'"),
        ("dataset.val_fraction", 1.5, "dataset.val_fraction: 1.5; Input should be less than 1"),
        ("seed", -1, "seed: -1; expected an integer of 0 or more"),
        ("seed", 1.5, "seed: 1.5; expected an integer of 0 or more"),
        ("seed", "zero", "seed: 'zero'; expected an integer of 0 or more"),
        ("seed", True, "seed: True; expected an integer of 0 or more"),
        ("study", 3, "study: 3; expected study.name, study.primary, study.baseline and study.controls"),
        ("study.name", None, "study.name: None; Input should be a valid string"),
        ("study.name", "a/b", "study.name: 'a/b'; String should match pattern"),
        (
            "study.secondary",
            "val/loss",
            "study.secondary: Study has no such option; expected name, primary, baseline, controls",
        ),
        ("study.controls.a", "a", "study.controls: {'a': 'a'}; expected another label as the control of a"),
        ("study.controls.a", 3, "study.controls: {'a': 3}; Input should be a valid string"),
    ],
)
def test_a_mistake_is_named_with_its_key(key: str, value: Any, message: str) -> None:
    cfg = compose_config()
    OmegaConf.update(cfg, key, value, force_add=True)

    with pytest.raises(ConfigError) as refused:
        config.check_config(cfg)

    assert message in str(refused.value)


def test_what_is_missing_is_named() -> None:
    message = errors_of("~trainer.steps", "~sampler.replacement", "~study.primary")

    assert "trainer.steps: missing; Trainer needs it" in message
    assert "sampler.replacement: missing; Shuffled needs it" in message
    assert "study.primary: missing; Study needs it" in message


def test_the_options_of_a_base_sampler_are_checked_too() -> None:
    message = errors_of("sampler=hard_negative", "+sampler.base.typo=1", "+sampler.base.windows=1")

    assert "sampler.base.typo: Shuffled has no such option; expected replacement" in message
    assert "sampler.base.windows: is set by the run; remove it" in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("sampler=stratified", "sampler.tau=0.5"), "sampler.tau: 0.5; Input should be greater than or equal to 1"),
        (("sampler=hard_negative", "sampler.fraction=2"), "sampler.fraction: 2; Input should be less than or equal to"),
        (("sampler=hard_negative", "sampler.dedupe_radius=-1"), "sampler.dedupe_radius: -1; "),
        (("sampler=random_temporal", "sampler.episode_weight=frames"), "Input should be 'uniform' or 'windows'"),
    ],
)
def test_a_share_or_choice_out_of_its_range_is_named(overrides: tuple[str, ...], message: str) -> None:
    assert message in errors_of(*overrides)


def test_the_options_of_every_transform_are_checked() -> None:
    message = errors_of(
        "augmentation=all",
        "+augmentation.transforms.mirror.typo=1",
        "augmentation.transforms.gaussian_noise.std_max=-1",
    )

    assert "augmentation.transforms.mirror.typo: Mirror has no such option" in message
    assert "augmentation.transforms.x: 3; expected an object with a _target_" in errors_of(
        "+augmentation.transforms.x=3"
    )
    assert "augmentation.transforms.gaussian_noise.std_max: -1; " in message


def test_a_required_value_is_asked_for() -> None:
    assert "dataset.path: required; give it on the command line (dataset.path=...)" in errors_of("dataset=h5")


def test_all_mistakes_stand_in_one_message() -> None:
    message = errors_of("+foo=1", "+sampler.typo=1", "seed=-1", "trainer.steps=soon", "model.head.loss=mae")

    assert len(message.splitlines()) == 6
    for key in ("foo", "sampler.typo", "seed", "trainer.steps", "model.head.loss"):
        assert f"\n  {key}: " in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("trainer.score_smoothing=1",), "trainer.score_smoothing: 1; Input should be less than 1"),
        (
            ("trainer.schedule.final_learning_rate=1",),
            "the rate falls, so expected at most",
        ),
        (("trainer.device=abacus",), "trainer.device=abacus: expected auto, cpu, cuda or cuda:N"),
        (("dataset.actions=[linear_x,linear_x]",), "dataset.actions=['linear_x', 'linear_x']: expected each name once"),
        (("dataset.actions=[linear_z]",), "dataset.actions: linear_z is recorded nowhere; expected linear_x, linear_y"),
        (("dataset.grammars.boxes='('",), "dataset.grammars.boxes: not a regular expression"),
        (("dataset.unseen=[3box]",), "dataset.unseen: '3box' matches no episode; scenarios are 1box_hori_left"),
        (("dataset.padding=none", "dataset.window_size=40"), "no episode has a window: dataset.padding=none"),
        (
            ("sampler=stratified", "trainer.batch_size=2"),
            "trainer.batch_size=2 is too small: sampler=stratified puts every scenario",
        ),
        (
            ("sampler=random_temporal", "sampler.replacement=false", "sampler.episode_weight=windows"),
            "sampler.episode_weight=windows has no effect",
        ),
        (("trainer.epochs=1",), "trainer.steps: has no effect, as trainer.epochs=1 sets the budget"),
    ],
)
def test_values_that_do_not_go_together_end_the_run_in_one_plain_message(
    overrides: tuple[str, ...], message: str, tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_in(tmp_path / "run", *tiny, *overrides)

    assert ran.exit_code == 1
    assert ran.message.startswith("error: ")
    assert message in ran.message
    assert ran.summary["status"] == "failed"
    assert "Traceback" not in capsys.readouterr().err


def test_steps_that_an_experiment_would_overrule_are_refused_until_its_epochs_are_taken_back() -> None:
    overruled = ["experiment=sampling_report", "trainer.steps=2"]
    taken_back = [*overruled, "trainer.epochs=null"]

    with pytest.raises(ConfigError, match=r"trainer.steps: has no effect, as trainer.epochs=10 sets the budget"):
        config.check_config(compose_config(overruled), overrides=overruled)
    config.check_config(compose_config(taken_back), overrides=taken_back)


def test_a_wrong_config_is_refused_before_anything_is_read_or_made(tiny: tuple[str, ...], tmp_path: Path) -> None:
    made = tmp_path / "made"
    elsewhere = (f"dataset.cache_dir={made}/cache", "dataset.path=/does/not/exist")

    ran = run_in(tmp_path / "run", *tiny, *elsewhere, "+sampler.typo=1")
    generated = run_in(tmp_path / "sim", f"dataset.datasets_dir={made}/data", "logger=local", "+sampler.typo=1")

    assert "sampler.typo" in ran.message
    assert "/does/not/exist" not in ran.message
    assert "sampler.typo" in generated.message
    assert not made.exists()
