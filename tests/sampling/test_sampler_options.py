"""Check that a wrong option of a sampler is one clear message before anything is built."""

from __future__ import annotations

import pytest
from tables import UNEVEN, config

from mobile_vla.build import check_config
from mobile_vla.errors import ConfigError
from mobile_vla.sampling.random_temporal import RandomTemporal
from mobile_vla.sampling.scores import Scores
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
    "hard_negative +sampler.typo=1",
    "sequential +sampler.batch_size=3",
)


@pytest.mark.parametrize("given", OUT_OF_RANGE)
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
        Scores(3, smoothing=smoothing)
