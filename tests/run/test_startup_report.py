"""Check what is said before a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tiny_runs import compose_config, run_in

from mobile_vla.config import options_marked
from mobile_vla.sampling.contract import CHANGES_THE_SAMPLER


def test_the_steps_at_which_a_sampler_changes_are_found_wherever_they_stand() -> None:
    curriculum, base = (
        OmegaConf.to_container(compose_config([f"sampler={name}"]).sampler, resolve=True)
        for name in ("curriculum", "prioritized")
    )
    assert isinstance(base, dict)
    options = {**curriculum, "base": {**base, "beta_end_step": 1501}}
    found = options_marked(CHANGES_THE_SAMPLER, options, path="sampler")
    assert sorted(found) == [("sampler.base.beta_end_step", 1501), ("sampler.full_at_step", 750)]


def test_a_run_that_ends_before_its_curriculum_says_so(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in(tmp_path, *tiny, "sampler=curriculum")
    shown = " ".join(capsys.readouterr().out.split())
    assert "sampler.full_at_step=750 is after the last step, 4" in shown[shown.index("Warnings") :]


@pytest.mark.parametrize("decay_steps", ["null", "8"], ids=str)
def test_a_run_that_goes_on_longer_says_what_stays_as_it_began(
    decay_steps: str, tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in(tmp_path, *tiny, "sampler=prioritized", f"trainer.schedule.decay_steps={decay_steps}")
    assert "is after the last step" not in " ".join(capsys.readouterr().out.split()), "it ends with the run"
    run_in(tmp_path, f"resume={tmp_path}", "trainer.steps=6")
    said = "sampler.beta_end_step=4 stays as the run began, though it now ends at step 6"
    assert said in " ".join(capsys.readouterr().out.split())
