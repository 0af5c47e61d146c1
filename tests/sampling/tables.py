"""Make real window tables, score tables and samplers for the laws of sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from mobile_vla.data.windows import Padding, build_windows
from mobile_vla.sampling.contract import Sampler, SamplerFactory
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Episode, WindowTable
from mobile_vla.streams import Stream

CONF = Path(__file__).parents[2] / "conf"

VARIANTS = (
    *(f"sampler={path.stem}" for path in sorted((CONF / "sampler").glob("*.yaml"))),
    "sampler=shuffled sampler.replacement=true",
    "sampler=random_temporal sampler.replacement=false",
    "sampler=random_temporal sampler.episode_weight=windows",
    "sampler=stratified sampler.tau=1",
    "sampler=stratified sampler.tau=inf",
    "sampler=hard_negative sampler.warmup_passes=0 sampler.dedupe_radius=0",
    "sampler=hard_negative sampler.warmup_passes=0 sampler.fraction=1 sampler.uniform_mix=0",
)
"""Every option of the group as it ships, found on disk, and the other values that change what is drawn."""

law = settings(max_examples=20, deadline=None)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a sampler is built for: a table, a batch size that holds all its scenarios, a seed."""

    windows: WindowTable
    batch_size: int
    seed: int

    def sampler(self, variant: str, *, seed: int | None = None) -> Sampler:
        """Return a fresh sampler of ``variant``, as a run would build it."""
        stream = Stream(self.seed if seed is None else seed, "sampler")
        return factory(variant)(windows=self.windows, batch_size=self.batch_size, stream=stream)


@cache
def config(variant: str) -> DictConfig:
    """Return the whole config with the overrides of ``variant`` (separated by spaces)."""
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose("config", overrides=variant.split())


@cache
def factory(variant: str) -> SamplerFactory:
    """Return the sampler of ``variant`` without its data."""
    return instantiate(config(variant).sampler, _convert_="all", _partial_=True)


def table(
    lengths: Sequence[int],
    scenarios: Sequence[str] = ("only",),
    *,
    window_size: int = 3,
    fwd_pred_next_n: int = 2,
    padding: Padding = "both",
) -> WindowTable:
    """Return the windows of episodes of ``lengths`` frames; ``scenarios`` are dealt out in turn."""
    episodes = [
        Episode(
            name=f"episode_{i}",
            path=Path(f"episode_{i}.h5"),
            num_frames=length,
            actions=np.zeros((length, 2), np.float32),
            instruction="go",
            scenario=scenarios[i % len(scenarios)],
            image_shape=(4, 4, 3),
        )
        for i, length in enumerate(lengths)
    ]
    return build_windows(episodes, window_size=window_size, fwd_pred_next_n=fwd_pred_next_n, padding=padding)


UNEVEN = Problem(windows=table([3, 9, 4, 14, 5, 6, 12, 7], ["near", "far", "far", "far", "left"]), batch_size=8, seed=0)
"""60 windows of episodes and scenarios of different sizes: every sampler can differ from every other here."""


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Draw any small table that a data set can lead to, down to a single window."""
    window_size, fwd_pred_next_n = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    padding = draw(st.sampled_from(("none", "end", "both")))
    # One episode is long enough under every rule; the others may have no window at all.
    lengths = [window_size + fwd_pred_next_n, *draw(st.lists(st.integers(2, 15), max_size=7))]
    names = st.sampled_from(["near", "far", "left", "right"])
    scenarios = draw(st.lists(names, min_size=len(lengths), max_size=len(lengths)))
    windows = table(
        draw(st.permutations(lengths)),
        scenarios,
        window_size=window_size,
        fwd_pred_next_n=fwd_pred_next_n,
        padding=padding,
    )
    least = len(windows.scenario_names)
    return Problem(windows=windows, batch_size=draw(st.integers(least, least + 12)), seed=draw(st.integers(0, 99)))


def scores_of(windows: WindowTable, *, seed: int, share_seen: float = 0.7) -> Scores:
    """Return scores as a training leaves them: a share of the windows seen, many losses equal."""
    random = np.random.default_rng(seed)
    scores = Scores(len(windows), smoothing=0.5)
    seen = np.flatnonzero(random.random(len(windows)) < share_seen)
    scores.update(2, seen, random.integers(0, 5, len(seen)).astype(np.float32))
    return scores
