"""A job's folder is named by what it trains: by nothing else, and never like another's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mobile_vla.study.naming import job_digest, sweep_folder

KEYS = ("sampler.tau", "model/head", "augmentation", "dataset.path", "+trainer.x", "closed_loop/execution")
UNNAMED = (
    "sampler",
    "seed",
    "study.name",
    "logger",
    "logger.wandb.mode",
    "trainer.stop_at_step",
    "closed_loop.episodes",
)

trained = st.dictionaries(st.sampled_from(KEYS), st.text("ab1", min_size=1, max_size=3))
unnamed = st.dictionaries(st.sampled_from(UNNAMED), st.text("ab1", min_size=1, max_size=3))


def overrides(values: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


@given(trained, unnamed, st.randoms())
def test_neither_order_nor_what_trains_nothing_names_a_job(values: dict, others: dict, random) -> None:
    mixed = overrides({**values, **others})
    random.shuffle(mixed)

    assert job_digest(mixed) == job_digest(overrides(values))


@given(trained, trained)
def test_jobs_that_train_something_else_have_other_names(one: dict, other: dict) -> None:
    assert (job_digest(overrides(one)) == job_digest(overrides(other))) == (one == other)


def test_only_a_named_study_goes_on_where_it_was() -> None:
    assert sweep_folder("heads", "monday") == sweep_folder("heads", "tuesday") == "outputs/multirun/heads"
    assert sweep_folder("default", "monday") != sweep_folder("default", "tuesday")
