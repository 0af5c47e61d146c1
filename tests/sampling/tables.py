"""Make real window tables, score tables, answers to looks and samplers for the laws of sampling."""

from __future__ import annotations

import hashlib
import inspect
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from omegaconf import DictConfig
from tiny_runs import slow_but

from mobile_vla.data.windows import Padding, build_windows
from mobile_vla.sampling.contract import Measure, Sampler, SamplerFactory, draw_windows
from mobile_vla.sampling.score_file import write_window_scores
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, Episode, WindowTable
from mobile_vla.streams import Stream

CONF = Path(__file__).parents[2] / "conf"

_FOLDER = tempfile.TemporaryDirectory(prefix="window_scores_")
"""Holds the window score files of all problems, until the interpreter ends."""


def _as_shipped(path: Path) -> str:
    has_file = yaml.safe_load(path.read_text()).get("file") is not None
    return f"sampler={path.stem}" + (" sampler.file=FILE" if has_file else "")


SHIPPED = tuple(_as_shipped(path) for path in sorted((CONF / "sampler").glob("*.yaml")))

VARIANTS = (
    *SHIPPED,
    "sampler=shuffled sampler.replacement=true",
    "sampler=random_temporal sampler.replacement=false",
    "sampler=random_temporal sampler.episode_weight=windows",
    "sampler=stratified sampler.tau=1",
    "sampler=stratified sampler.tau=inf",
    "sampler=phase_balanced sampler.num_phases=3",
    "sampler=action_balanced sampler.density=code sampler.num_bins=4 sampler.power=1",
    "sampler=action_balanced sampler.max_ratio=2 sampler.power=1",
    "sampler=length_weighted sampler.power=-1",
    "sampler=curriculum sampler.order=random sampler.full_at_step=300",
    "sampler=curriculum sampler.order=file sampler.file=FILE",
    "sampler=prioritized sampler.warmup_passes=0 sampler.divide_by_largest=false",
    "sampler=prioritized sampler.warmup_passes=0 sampler.by=rank sampler.alpha=0.7 sampler.beta_start=0.5",
    "sampler=lap sampler.threshold=0.5 sampler.alpha=1 sampler.warmup_passes=0",
    "sampler=gradnorm_is sampler.min_tau=0",
    "sampler=selective_backprop sampler.beta=0.5 sampler.candidates_per_draw=1",
    "sampler=rho sampler.file=FILE sampler.keep=0.5",
    "sampler=group_dro sampler.file=FILE sampler.eta=2 sampler.smoothing=0.3",
    "sampler=hard_negative sampler.warmup_passes=0 sampler.dedupe_radius=0",
    "sampler=hard_negative sampler.warmup_passes=0 sampler.fraction=1 sampler.uniform_mix=0",
    "sampler=hard_negative sampler.warmup_passes=0 sampler@sampler.base=sequential",
    "sampler=hard_negative sampler.warmup_passes=0 sampler@sampler.base=prioritized",
    "sampler=loss_weighted sampler@sampler.base=prioritized",
    "sampler=loss_weighted sampler@sampler.base=action_balanced",
    "sampler=loss_weighted sampler@sampler.base=gradnorm_is",
    "sampler=loss_weighted sampler@sampler.base=rho sampler.base.file=FILE",
    "sampler=permuted_scores sampler@sampler.base=hard_negative",
    "sampler=permuted_scores sampler@sampler.base=group_dro sampler.base.file=FILE",
    "sampler=permuted_scores sampler@sampler.base=selective_backprop",
    "sampler=mixture +sampler@sampler.samplers.lap=lap +sampler.samplers.lap._partial_=true +sampler.weights.lap=0.5",
    "sampler=mixture sampler@sampler.samplers.second=action_balanced sampler.weights.second=0.2",
)
"""Every option of the group as it ships, found on disk, and other values and bases that change what is drawn.

FILE stands for a window score file of the problem at hand."""


def each_variant(chosen: Sequence[str] = VARIANTS) -> list[Any]:
    """Return parameters of a test: every sampler as shipped; its other ways are slow."""
    return slow_but(chosen, [variant for variant in chosen if variant in SHIPPED])


law = settings(max_examples=8)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a sampler is built for: a table, a batch size that holds all its scenarios, a seed."""

    windows: WindowTable
    batch_size: int
    seed: int

    def sampler(self, variant: str, *, seed: int | None = None, purpose: str = "sampler") -> Sampler:
        """Return a fresh sampler of ``variant``, as a run would build it."""
        stream = Stream(self.seed if seed is None else seed, purpose)
        given = _with_data(factory(variant), self)
        return given(windows=self.windows, batch_size=self.batch_size, stream=stream)

    @property
    def all_ids(self) -> NDArray[np.int64]:
        return np.arange(len(self.windows))

    @property
    def file(self) -> str:
        """A window score file: scores of 0 or more, many equal, some of them 0."""
        return score_file(self.windows, self.file_scores)

    @property
    def file_scores(self) -> NDArray[np.float32]:
        """What stands in ``file`` [N]."""
        scores = np.random.default_rng(self.seed + 1000).integers(0, 4, len(self.windows))
        return np.where(np.arange(len(scores)) == 0, 1, scores).astype(np.float32)

    def chunks(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return made actions [B, 2, 2]: the first dimension is skewed, the second the same for all."""
        mask = np.stack([np.ones(len(ids), bool), self.windows.pad_end[ids] == 0], axis=1)
        value = np.random.default_rng(self.seed).exponential(size=len(self.windows))[ids]
        actions = np.stack([np.stack([value, value], axis=1), np.full((len(ids), 2), 0.5)], axis=2)
        return (actions * mask[..., None]).astype(np.float32), mask


def score_file(windows: WindowTable, scores: NDArray[np.float32]) -> str:
    """Return the path of a window score file with ``scores`` [N]."""
    key = b"".join(column.tobytes() for column in (windows.episode, windows.frame, scores))
    path = Path(_FOLDER.name) / f"{hashlib.sha1(key).hexdigest()}.csv"
    if not path.exists():
        write_window_scores(path, windows, scores)
    return str(path)


def _with_data(value: Any, problem: Problem) -> Any:
    """Give the score file and the actions of ``problem`` to every factory in ``value`` that asks for them."""
    if isinstance(value, Mapping):
        return {key: _with_data(entry, problem) for key, entry in value.items()}
    if not isinstance(value, partial):
        return problem.file if value == "FILE" else value
    takes_chunks = "chunks" in inspect.signature(value.func).parameters
    return partial(
        value.func,
        **{key: _with_data(entry, problem) for key, entry in value.keywords.items()},
        **({"chunks": problem.chunks} if takes_chunks else {}),
    )


ConfigStore.instance().store("sampler_alone", {"defaults": [{"sampler": "shuffled"}, {"trainer": "default"}]})


def _compose(root: str, overrides: Sequence[str] = ()) -> DictConfig:
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose(root, overrides=list(overrides))


@cache
def _sampler_config(variant: str) -> DictConfig:
    # Without the other groups, which take most of the time.
    return _compose("sampler_alone", variant.split()).sampler


@cache
def _other_groups() -> DictConfig:
    return _compose("config")


def config(variant: str) -> DictConfig:
    """Return the whole config with the overrides of ``variant`` (separated by spaces)."""
    whole = deepcopy(_other_groups())
    whole.sampler = _sampler_config(variant)
    return whole


@cache
def factory(variant: str) -> SamplerFactory:
    """Return the sampler of ``variant`` without its data."""
    return instantiate(_sampler_config(variant), _convert_="all", _partial_=True)


class FixedMeasures:
    """Measures windows by fixed ``values`` [N], and counts the windows that were measured."""

    def __init__(self, values: NDArray[np.floating]) -> None:
        self.values = values.astype(np.float32)
        self.num_windows = 0

    def __call__(self, ids: NDArray[np.int64], measure: Measure) -> NDArray[np.float32]:
        self.num_windows += len(ids)
        return self.values[ids]


def no_measures(ids: NDArray[np.int64], measure: Measure) -> NDArray[np.float32]:
    """Fail: the sampler must not measure windows."""
    raise AssertionError(f"measured {len(ids)} windows")


def measures_of(problem: Problem) -> FixedMeasures:
    """Return measures that are positive, many of them equal."""
    return FixedMeasures(np.random.default_rng(problem.seed).integers(1, 6, len(problem.windows)) / 4)


def draw_of(problem: Problem, sampler: Sampler, step: int, scores: Scores) -> Draw:
    """Return the draw of ``step`` with the answers of ``measures_of``."""
    return draw_windows(sampler, step, scores, measures_of(problem))


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
            state=np.zeros((length, 0), np.float32),
            instruction="go",
            scenario=scenarios[i % len(scenarios)],
            image_sizes=((4, 4),),
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
    # Three times, as a third of a batch is the least that a mixture here leaves to stratified.
    least = 3 * len(windows.scenario_names)
    return Problem(windows=windows, batch_size=draw(st.integers(least, least + 12)), seed=draw(st.integers(0, 99)))


def scores_of(windows: WindowTable, *, seed: int, share_seen: float = 0.7) -> Scores:
    """Return scores as a training leaves them: a share of the windows seen, many losses equal."""
    random = np.random.default_rng(seed)
    scores = Scores(windows, smoothing=0.5)
    seen = np.flatnonzero(random.random(len(windows)) < share_seen)
    scores.update(2, seen, random.integers(0, 5, len(seen)).astype(np.float32))
    return scores


def scores_with(windows: WindowTable, losses: NDArray[np.floating]) -> Scores:
    """Return scores whose ``loss`` is ``losses`` [N] at a level of 1; NaN is a window not seen."""
    scores = Scores(windows, smoothing=0.5)
    scores.update(0, np.arange(len(windows)), losses.astype(np.float32))
    scores.load({**scores.state(), "loss": losses.astype(np.float32), "level": np.ones(2)})
    return scores
