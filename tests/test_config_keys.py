"""Keys that train nothing are told from those that do."""

from __future__ import annotations

import pytest

from mobile_vla.config_keys import BUDGET, is_within, key_of, trains_nothing


@pytest.mark.parametrize(
    "key",
    [
        *("logger", "logger.wandb.mode", "resume", "trainer.stop_at_step", "evaluation", "evaluation.shortcuts"),
        *("study.name", "study.controls.execution", "closed_loop", "closed_loop.episodes"),
        *("closed_loop/suite/seen@closed_loop.suites.seen", "closed_loop.suites.execution_slow"),
    ],
)
def test_what_only_measures_and_records_trains_nothing(key: str) -> None:
    assert trains_nothing(key)


@pytest.mark.parametrize(
    "key",
    [
        *(*BUDGET, "sampler", "seed", "sampler.tau", "model/head", "dataset.path", "loggers", "trainer", "studying"),
        *("closed_loop/execution", "closed_loop.execution.count"),
    ],
)
def test_what_trains_and_how_predictions_are_carried_out_is_no_measurement(key: str) -> None:
    assert not trains_nothing(key)


def test_a_key_is_read_off_an_override_of_any_form() -> None:
    assert [key_of(text) for text in ("a.b=c=d", "+a.b=1", "++a/b@c=x", "~a")] == ["a.b", "a.b", "a/b@c", "a"]
    assert [is_within(key, ["a.b"]) for key in ("a.b", "a.b.c", "a.bc", "a")] == [True, True, False, False]
