"""Check what is said before a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import run_in

from mobile_vla.announcement import late_changes


def test_a_sampler_that_would_change_after_the_last_step_is_named_wherever_it_stands() -> None:
    options = {"full_at_step": 750, "base": {"beta_end_step": 1501, "file": None}, "warmup_passes": 9000}
    (warning,) = late_changes(options, num_steps=1500)
    assert warning.startswith("sampler.base.beta_end_step=1501 lies beyond the last step, 1500")
    assert late_changes(options, num_steps=1501) == []


def test_a_run_that_ends_before_its_curriculum_says_so(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in(tmp_path, *tiny, "sampler=curriculum")
    shown = " ".join(capsys.readouterr().out.split())
    assert "sampler.full_at_step=750 lies beyond the last step, 4" in shown[shown.index("Warnings") :]
