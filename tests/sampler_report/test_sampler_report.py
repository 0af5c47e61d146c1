"""Check what `python -m mobile_vla sampler` shows against the definitions, and what it refuses."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tiny_runs import choose_sampler, compose_config, options_of, run_in, slow_but

from mobile_vla.commands.cli import main
from mobile_vla.data.dataset import OpenDataset
from mobile_vla.errors import UserError
from mobile_vla.run.build import build_dataset, build_sampler
from mobile_vla.sampler_report.loss_dependence import goes_by_losses
from mobile_vla.sampler_report.rehearsal import Rehearsal, rehearse
from mobile_vla.sampler_report.run_scores import scores_of_run
from mobile_vla.sampler_report.shares import shares_by_episode, shares_by_phase, shares_by_scenario
from mobile_vla.sampler_report.tables import print_rehearsal
from mobile_vla.sampling.scores import Scores
from mobile_vla.streams import Stream

_BATCH = 8

STATIC = (
    *("action_balanced", "curriculum_random", "length_weighted", "mixture", "phase_balanced", "random_temporal"),
    *("sequential", "shuffled", "static_scores", "stratified"),
)
"""Samplers that draw the same whatever the losses are; a mixture, of these two."""

ADAPTIVE = (
    *("curriculum", "gradnorm_is", "group_dro", "hard_negative", "lap", "loss_weighted", "permuted_scores"),
    *("prioritized", "prioritized_rank", "rho", "selective_backprop"),
)


def show(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main(["sampler", *map(str, arguments)])
    if isinstance(end.value.code, str):
        raise UserError(end.value.code)
    return end.value.code or 0


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="session")
def unlimited(tiny: tuple[str, ...]) -> tuple[str, ...]:
    """The overrides of a tiny job without its budget."""
    return tuple(override for override in tiny if not override.startswith("trainer.steps="))


@pytest.fixture(scope="module")
def data(tiny: tuple[str, ...]) -> OpenDataset:
    return build_dataset(compose_config(tiny)).open()


@pytest.fixture(scope="module")
def trained(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has seen some of its windows."""
    ran = run_in(tmp_path_factory.mktemp("trained") / "run", *tiny, "sampler=shuffled")
    assert ran.exit_code == 0, ran.message
    return ran.folder


def rehearsed(
    data: OpenDataset, tiny: tuple[str, ...], *overrides: str, num_steps: int = 40, known: Scores | None = None
) -> Rehearsal:
    cfg = compose_config([*tiny, *overrides])
    sampler = build_sampler(cfg.sampler, data.readers["train"], batch_size=_BATCH, stream=Stream(cfg.seed, "sampler"))
    return rehearse(sampler, batch_size=_BATCH, num_steps=num_steps, known=known)


@pytest.mark.parametrize("name", slow_but(options_of("sampler"), ("shuffled", "hard_negative", "rho", "mixture")))
def test_every_sampler_is_shown_in_80_columns(name: str, data: OpenDataset, tiny: tuple[str, ...]) -> None:
    found = rehearsed(data, tiny, *choose_sampler(name, tiny), num_steps=20)
    console = Console(width=80, record=True, file=io.StringIO())
    print_rehearsal(found, console)

    shown = console.export_text()
    for scenario in data.windows["train"].scenario_names:
        assert scenario in shown
    assert "…" not in shown
    assert found.visits.sum() == 20 * _BATCH


@pytest.mark.parametrize("name", [*STATIC, *ADAPTIVE])
def test_it_is_found_out_who_goes_by_losses(name: str, data: OpenDataset, tiny: tuple[str, ...]) -> None:
    cfg = compose_config([*tiny, *choose_sampler(name, tiny)])
    sampler = build_sampler(cfg.sampler, data.readers["train"], batch_size=_BATCH, stream=Stream(0, "sampler"))

    assert goes_by_losses(sampler, num_steps=1500) == (name not in STATIC)


def test_the_picture_lies_where_it_is_said_to(
    unlimited: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show("gradnorm_is", *unlimited, "--steps", "20", "--out", tmp_path / "drawn") == 0

    shown = capsys.readouterr().out
    assert "as if all losses were equal" in shown
    (picture,) = (tmp_path / "drawn").glob("*.png")
    assert str(picture) in shown
    colours = {
        tuple(pixel) for pixel in np.asarray(Image.open(picture).convert("RGB"))[::2, ::2].reshape(-1, 3).tolist()
    }
    assert len(colours) > 20


def test_shares_are_those_of_counting_the_draws(data: OpenDataset, tiny: tuple[str, ...]) -> None:
    found = rehearsed(data, tiny, "sampler=stratified", "sampler.tau=inf", num_steps=30)

    table = found.windows
    for shares, group in (
        (shares_by_scenario(found), table.scenario),
        (shares_by_phase(found), table.phase),
        (shares_by_episode(found), table.episode),
    ):
        for column in (shares.natural, shares.target, shares.drawn):
            assert column.sum() == pytest.approx(1)
        present = np.unique(group)
        assert len(shares) == len(present)
        for place, value in enumerate(present):
            assert shares.num_windows[place] == (group == value).sum()
            assert shares.drawn[place] == pytest.approx(found.visits[group == value].sum() / (30 * _BATCH))
    scenarios = shares_by_scenario(found)
    assert scenarios.target == pytest.approx(np.full(len(scenarios), 1 / len(scenarios)))
    assert scenarios.drawn == pytest.approx(scenarios.target, abs=1 / (30 * _BATCH))
    assert scenarios.natural != pytest.approx(scenarios.target, abs=0.01)


def test_shuffled_covers_the_table_in_one_pass(data: OpenDataset, tiny: tuple[str, ...]) -> None:
    found = rehearsed(data, tiny, "sampler=shuffled")

    num_windows = len(found.windows)
    coverage = found.coverage_by_step()
    assert coverage == pytest.approx(np.minimum(np.arange(41) * _BATCH / num_windows, 1))
    for share in (0.5, 0.9, 0.99):
        step = found.steps_until(share)
        assert step is not None
        assert coverage[step] >= share > coverage[step - 1]
    assert rehearsed(data, tiny, "sampler=shuffled", num_steps=1).steps_until(0.9) is None


def test_the_map_holds_every_draw_and_shows_the_order(data: OpenDataset, tiny: tuple[str, ...]) -> None:
    found = rehearsed(data, tiny, "sampler=sequential", num_steps=len(data.windows["train"]) // _BATCH)

    assert found.draw_map.sum() == found.visits.sum() == found.num_steps * _BATCH
    rows = np.arange(len(found.draw_map))[:, None]
    place = (found.draw_map * rows).sum(axis=0) / found.draw_map.sum(axis=0)
    assert (np.diff(place) > 0).all()


def test_the_target_of_a_warm_up_is_the_mean_over_the_budget(data: OpenDataset, tiny: tuple[str, ...]) -> None:
    known = Scores(data.windows["train"], smoothing=0)
    ids = np.arange(len(data.windows["train"]))
    known.update(0, ids, (ids < len(ids) // 5).astype(np.float32))
    mined = rehearsed(
        data, tiny, "sampler=hard_negative", "sampler.fraction=1", "sampler.dedupe_radius=0", num_steps=400, known=known
    )

    hard_drawn, hard_target = (column[ids < len(ids) // 5].sum() for column in (mined.visits, mined.targets))
    assert hard_drawn / mined.visits.sum() == pytest.approx(hard_target, abs=0.03)
    assert hard_target > 0.8


def test_looks_are_answered_from_the_losses_and_counted(data: OpenDataset, tiny: tuple[str, ...]) -> None:
    options = ("sampler=gradnorm_is", "sampler.min_tau=0")
    num_windows = len(data.windows["train"])
    known = Scores(data.windows["train"], smoothing=0)
    known.update(0, np.arange(num_windows), np.where(np.arange(num_windows) < 10, 50.0, 1.0).astype(np.float32))

    equal, skewed = (rehearsed(data, tiny, *options, known=scores) for scores in (None, known))

    assert equal.windows_scored == skewed.windows_scored == 40 * min(3 * _BATCH, num_windows)
    assert equal.metrics["sampler/weight_max"] == pytest.approx(1)
    assert skewed.visits[:10].sum() > 2 * equal.visits[:10].sum()


def test_scores_of_a_run_stand_still_and_steer_what_is_drawn(
    data: OpenDataset, tiny: tuple[str, ...], trained: Path
) -> None:
    scores = scores_of_run(trained, data)
    before = scores.state()
    found = rehearsed(
        data, tiny, "sampler=prioritized", "sampler.alpha=4", "sampler.warmup_passes=0", num_steps=200, known=scores
    )

    for name, array in scores.state().items():
        np.testing.assert_array_equal(array, before[name])
    seen = scores.visits > 0
    assert 0 < seen.sum() < len(seen)
    assert found.metrics["sampler/score_rank_correlation"] > 0.5
    assert found.visits / found.visits.sum() == pytest.approx(found.targets, abs=0.02)


def test_a_run_of_the_same_windows_is_taken(
    unlimited: tuple[str, ...], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show("hard_negative", *unlimited, "--scores", trained, "--steps", "20", "--out", tmp_path) == 0

    shown = "".join(capsys.readouterr().out.split())
    assert f"lossesfromthelastcheckpointof{trained}" in shown
    assert "windowsthatitneverdrewhavenone" in shown
    assert "hasnoeffect" not in shown


def test_scores_that_change_nothing_are_said_to(
    tiny: tuple[str, ...], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show("shuffled", *tiny, "--scores", trained, "--out", tmp_path) == 0

    assert "has no effect" in words(capsys.readouterr().out)


def test_a_run_of_other_windows_is_refused(tiny: tuple[str, ...], trained: Path, tmp_path: Path) -> None:
    for other in ("dataset.fwd_pred_next_n=3", "dataset.split_seed=8"):
        with pytest.raises(UserError, match="was trained on other windows"):
            show("prioritized", *tiny, other, "--scores", trained, "--out", tmp_path)


def test_a_folder_without_a_checkpoint_is_refused(tiny: tuple[str, ...], trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(f"--scores {tmp_path}: holds no checkpoint")):
        show("prioritized", *tiny, "--scores", tmp_path)
    copied = shutil.copytree(trained, tmp_path / "run")
    (copied / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json"):
        show("prioritized", *tiny, "--scores", copied)


@pytest.mark.slow
def test_the_budget_is_that_of_the_run(
    unlimited: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], data: OpenDataset
) -> None:
    three_passes = -(-3 * len(data.windows["train"]) // _BATCH)
    for budget, expected in ((("trainer.steps=4",), 4), (("--steps", "7"), 7), (("trainer.epochs=3",), three_passes)):
        assert show("shuffled", *unlimited, *budget, "--out", tmp_path) == 0
        assert f"{expected:,} steps of {_BATCH}" in capsys.readouterr().out


def test_a_sampler_that_can_do_nothing_is_said_to(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show("prioritized", *tiny, "sampler.alpha=0", "--out", tmp_path) == 0
    assert "cannot differ from shuffled" in words(capsys.readouterr().out)
    assert show("prioritized", *tiny, "--out", tmp_path) == 0
    assert "cannot differ" not in words(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no_such",), "no_such"),
        (("shuffled", "sampler.typo=1"), "typo"),
        (("stratified", "sampler.tau=0.5"), "sampler.tau"),
        (("static_scores",), "sampler.file: required"),
        (("shuffled", "--steps", "0"), "trainer.steps: 0"),
        (("shuffled", "--steps", "5", "trainer.steps=6"), "trainer.steps=6: --steps 5 sets the budget already"),
        (("shuffled", "sampler=stratified"), "sampler=stratified: the sampler is already given as NAME (shuffled)"),
    ],
)
def test_what_cannot_be_shown_is_an_error_that_names_it(
    arguments: tuple[str, ...], message: str, unlimited: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        show(*arguments, *unlimited, "--out", tmp_path / "drawn")
    assert not (tmp_path / "drawn").exists()


def test_what_the_loss_weights_prefer_is_shown_beside_what_is_drawn(data: OpenDataset, tiny: tuple[str, ...]) -> None:
    num_windows = len(data.windows["train"])
    known = Scores(data.windows["train"], smoothing=0)
    is_hard = data.windows["train"].scenario == 0
    known.update(0, np.arange(num_windows), np.where(is_hard, 9.0, 1.0).astype(np.float32))
    base = ("sampler=loss_weighted", "sampler@sampler.base=prioritized", "sampler.base.warmup_passes=0")
    plain, weighted = (
        rehearsed(data, tiny, *options, known=known, num_steps=60) for options in (("sampler=shuffled",), base)
    )

    assert not plain.is_weighted
    assert shares_by_scenario(plain).in_loss == pytest.approx(shares_by_scenario(plain).drawn)
    assert weighted.is_weighted
    shares = shares_by_scenario(weighted)
    assert shares.drawn[0] == pytest.approx(shares.natural[0], abs=0.02)
    assert shares.in_loss[0] > 1.5 * shares.drawn[0]
    assert shares.in_loss.sum() == pytest.approx(1)
    for found, has_column in ((plain, False), (weighted, True)):
        console = Console(width=80, record=True, file=io.StringIO())
        print_rehearsal(found, console)
        assert ("in loss" in console.export_text()) == has_column
