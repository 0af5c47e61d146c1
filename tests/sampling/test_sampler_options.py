"""Check that a wrong option of a sampler is one clear message before anything is built."""

from __future__ import annotations

import numpy as np
import pytest
from tables import UNEVEN, config, score_file
from tiny_runs import every

from mobile_vla.config import check_config
from mobile_vla.errors import ConfigError
from mobile_vla.sampling.scores import Scores
from mobile_vla.sampling.strategies.random_temporal import RandomTemporal
from mobile_vla.streams import Stream

OUT_OF_RANGE = (
    "shuffled sampler.replacement=no",
    "random_temporal sampler.replacement=yes",
    "random_temporal sampler.episode_weight=frames",
    "stratified sampler.tau=0.5",
    "stratified sampler.tau=nan",
    "stratified sampler.tau=null",
    "hard_negative sampler.fraction=2",
    "hard_negative sampler.fraction=0",
    "hard_negative sampler.top_fraction=0",
    "hard_negative sampler.top_fraction=1.5",
    "hard_negative sampler.uniform_mix=-0.1",
    "hard_negative sampler.uniform_mix=1",
    "hard_negative sampler.warmup_passes=-1",
    "hard_negative sampler.warmup_passes=inf",
    "hard_negative sampler.dedupe_radius=-1",
    "hard_negative sampler.dedupe_radius=1.5",
    "hard_negative sampler.base.replacement=1",
    "phase_balanced sampler.num_phases=0",
    "action_balanced sampler.density=both",
    "action_balanced sampler.num_bins=0",
    "action_balanced sampler.power=1.5",
    "action_balanced sampler.max_ratio=0.5",
    "length_weighted sampler.power=11",
    "static_scores sampler.power=-1 sampler.file=x.csv",
    "static_scores sampler.uniform_mix=1 sampler.file=x.csv",
    "curriculum sampler.order=hard",
    "curriculum sampler.start=0",
    "curriculum sampler.full_at_step=0",
    "prioritized sampler.by=age",
    "prioritized sampler.alpha=-1",
    "prioritized sampler.beta_start=1.1",
    "prioritized sampler.beta_end_step=-1",
    "prioritized sampler.uniform_mix=0",
    "prioritized sampler.divide_by_largest=1",
    "prioritized_rank sampler.warmup_passes=inf",
    "lap sampler.alpha=inf",
    "lap sampler.threshold=0",
    "gradnorm_is sampler.candidates_per_draw=0",
    "gradnorm_is sampler.min_tau=-1",
    "selective_backprop sampler.beta=-1",
    "selective_backprop sampler.candidates_per_draw=0.5",
    "rho sampler.keep=0",
    "rho sampler.keep=1.5",
    "group_dro sampler.eta=-1",
    "group_dro sampler.smoothing=1.5",
    "mixture sampler.weights={first:0,second:1}",
    "mixture sampler.samplers.second.tau=0",
    "loss_weighted sampler.base.fraction=3",
    "permuted_scores sampler.base.alpha=-1",
    "hard_negative +sampler.typo=1",
    "sequential +sampler.batch_size=3",
)


@pytest.mark.parametrize("given", every(4, OUT_OF_RANGE))
def test_a_value_out_of_range_is_an_error_that_names_the_key(given: str) -> None:
    key = given.split()[1].lstrip("+").split("=")[0]
    with pytest.raises(ConfigError, match=key) as error:
        check_config(config(f"sampler={given}"))
    assert len(str(error.value).splitlines()) == 2


def test_a_weight_that_could_have_no_effect_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"episode_weight=windows has no effect with sampler.replacement=false"):
        RandomTemporal(
            windows=UNEVEN.windows, batch_size=4, stream=Stream(0, "s"), episode_weight="windows", replacement=False
        )


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_a_smoothing_out_of_range_is_an_error(smoothing: float) -> None:
    with pytest.raises(ConfigError, match=r"trainer.score_smoothing=.*\[0, 1\)"):
        Scores(UNEVEN.windows, smoothing=smoothing)


@pytest.mark.parametrize("given", ["curriculum sampler.order=file", "curriculum sampler.file=FILE"])
def test_a_file_of_difficulties_and_its_order_come_together(given: str) -> None:
    with pytest.raises(ConfigError, match=r"sampler.file=.* with sampler.order=.*Give both or neither"):
        UNEVEN.sampler(f"sampler={given}")


@pytest.mark.parametrize(("scores", "message"), [([0.0] * 60, "all 0"), ([-1.0] + [1.0] * 59, "below 0 in places")])
def test_scores_that_are_no_shares_are_an_error(scores: list[float], message: str) -> None:
    path = score_file(UNEVEN.windows, np.array(scores, np.float32))
    with pytest.raises(ConfigError, match=rf"sampler.file={path}: its scores are {message}"):
        UNEVEN.sampler(f"sampler=static_scores sampler.file={path}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("~sampler.weights.first", "sampler.weights names second and sampler.samplers first, second"),
        ("+sampler.weights.third=1", "sampler.weights names first, second, third and sampler.samplers first, second"),
        ("sampler.weights.first=0.001", "a batch of 8 has no window left for first"),
    ],
)
def test_samplers_and_weights_of_a_mixture_that_do_not_fit_are_an_error(given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UNEVEN.sampler(f"sampler=mixture {given}")
