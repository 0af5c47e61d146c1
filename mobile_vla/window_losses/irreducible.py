"""Estimate the irreducible loss of every train window by cross-fitting: ``python -m mobile_vla irreducible``."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mobile_vla.config import check_config, compose_config
from mobile_vla.errors import ConfigError
from mobile_vla.evaluation.data_report import print_warnings
from mobile_vla.features.readers import with_features
from mobile_vla.policy.checkpoint_folder import CHECKPOINTS_FOLDER, find_in_run
from mobile_vla.policy.model import Model
from mobile_vla.policy.weights import load_weights
from mobile_vla.process.console import new_console
from mobile_vla.run.build import Run, build_run, build_sampler, fit_statistics
from mobile_vla.run.live_progress import LiveProgress
from mobile_vla.run.primary import scale_of
from mobile_vla.sampling.score_file import check_suffix, read_window_scores, write_window_scores
from mobile_vla.storage.build_once import build_once
from mobile_vla.streams import Stream
from mobile_vla.tracking.provenance import code_commit, files_of
from mobile_vla.training.loop import Parts, train
from mobile_vla.window_losses.folds import deal_folds, hold_out
from mobile_vla.window_losses.scoring import window_losses

CACHE_VERSION = 1
"""Part of every cache key. Increase it when a code change gives other losses for the same settings."""

_SCORES_FILE = "scores.parquet"
_RECORD_FILE = "record.json"
_DECIDING = ("seed", "sampler", "augmentation", "model", "trainer")
"""The parts of the config that determine, together with the episodes, what the model of a fold learns."""


@dataclass(frozen=True, kw_only=True)
class Irreducible:
    """The command: losses of a run with ``overrides``, cross-fitted over ``num_folds`` folds, written to ``out``.

    The irreducible loss of RHO-LOSS (Mindermann et al. 2022, arXiv:2206.07137) is the loss of a model that was trained
    on held-out data. With few demonstrations, none can be held out. Therefore the train episodes are divided into
    folds, and each window is scored by a model that was trained like a run on the episodes of the other folds. Neither
    the weights nor the normaliser of this model depend on the window's episode.

    ``checkpoint`` is ``last`` or ``best``: the evaluation at which a fold's model predicts the windows that it scores
    with the lowest error. This selects only one number, the step, by the scored windows. It is useful because a model
    that has memorised its episodes has a high loss on all other windows, which would all look irreducible.
    """

    out: Path
    num_folds: int
    checkpoint: str
    overrides: Sequence[str]

    def run(self) -> None:
        """Train the folds that are not in the cache, and write a window score file for all train windows."""
        check_suffix(self.out)
        cfg = compose_config(self.overrides)
        check_config(cfg, overrides=self.overrides)
        for key in ("resume", "trainer.stop_at_step"):
            if OmegaConf.select(cfg, key) is not None:
                raise ConfigError(f"{key}: expected null, as every fold is trained from its start to its end")
        console = new_console()
        run = build_run(cfg)
        print_warnings(run.data.warnings, console)
        windows = run.data.windows["train"]
        scores_N = np.full(len(windows), np.nan, np.float32)
        for fold in _deal(run, self.num_folds, self.checkpoint):
            ids = np.flatnonzero(np.isin(windows.episode, [windows.episode_names.index(name) for name in fold.scored]))
            scores_N[ids] = fold.losses(cfg, console)
        write_window_scores(self.out, windows, scores_N)
        found = f"{len(windows):,} train windows, mean irreducible loss {scores_N.mean():.4f}"
        console.print(f"{self.out}: {found}", soft_wrap=True, markup=False, highlight=False)


@dataclass(frozen=True, kw_only=True)
class _Fold:
    """One fold: the untrained ``run`` on all episodes, and the names of the episodes to learn from and to score."""

    label: str
    run: Run
    checkpoint: str
    learnt: tuple[str, ...]
    scored: tuple[str, ...]

    def losses(self, cfg: DictConfig, console: Console) -> NDArray[np.float32]:
        """Return the loss of every window of the episodes ``scored``, in table order, from the cache if it is there."""
        run = self._run(cfg)
        folder = Path(run.dataset.cache_dir) / f"irreducible-{self._digest()}"
        is_cached = True

        def build(partial_folder: Path) -> None:
            nonlocal is_cached
            is_cached = False
            _train_and_score(partial_folder, run=run, checkpoint=self.checkpoint, label=self.label, console=console)

        build_once(folder, build)
        windows = run.data.windows["val"]
        losses_N = read_window_scores(folder / _SCORES_FILE, windows, option="dataset.cache_dir")
        step = json.loads((folder / _RECORD_FILE).read_text())["step"]
        how = f"after {step} steps on {len(self.learnt)} other episodes{f', from {folder}' if is_cached else ''}"
        text = f"{self.label}: {len(windows):,} windows of {len(self.scored)} episodes, mean loss {losses_N.mean():.4f}"
        console.print(f"{text} {how}", soft_wrap=True, markup=False, highlight=False)
        return losses_N

    def _digest(self) -> str:
        backbone = self.run.model.backbone
        config = {key: self.run.config[key] for key in _DECIDING}
        content = [
            CACHE_VERSION,
            code_commit(),
            self.run.data.data_hash,
            self.run.data.frames.key,
            config,
            files_of(config),
            backbone.base_hash,
            self.checkpoint,
            self.learnt,
            self.scored,
        ]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()

    def _run(self, cfg: DictConfig) -> Run:
        """Return the run on the episodes ``learnt``, with the episodes ``scored`` as its val split."""
        data = hold_out(self.run.data, self.run.dataset, train=self.learnt, val=self.scored)
        # A copy, so that every fold starts from the same initial weights; its normaliser is fitted to this fold alone.
        model = copy.deepcopy(self.run.model)
        fit_statistics(model, data, self.learnt)
        trainer, reader, stream = self.run.trainer, data.readers["train"], Stream(cfg.seed, "sampler")
        return replace(
            self.run,
            data=data,
            model=model,
            num_steps=trainer.num_steps(len(reader.windows)),
            sampler=build_sampler(cfg.sampler, reader, batch_size=trainer.batch_size, stream=stream),
        )


def _deal(run: Run, num_folds: int, checkpoint: str) -> list[_Fold]:
    windows = run.data.windows["train"]
    names = [windows.episode_names[episode] for episode in np.unique(windows.episode)]
    folds = deal_folds([run.data.episodes[name] for name in names], num_folds=num_folds, seed=run.dataset.split_seed)
    return [
        _Fold(
            label=f"fold {number} of {num_folds}",
            run=run,
            checkpoint=checkpoint,
            learnt=tuple(name for name in names if name not in scored),
            scored=scored,
        )
        for number, scored in enumerate(folds, start=1)
    ]


def _train_and_score(folder: Path, *, run: Run, checkpoint: str, label: str, console: Console) -> None:
    """Train ``run`` to its end; write the losses of its val windows, and a record of the fold, into ``folder``."""
    started = time.perf_counter()
    run.model.to(run.trainer.torch_device())
    split_seed, cache_dir = run.dataset.split_seed, Path(run.dataset.cache_dir)
    readers, augment = with_features(run.model, run.data, run.augment, split_seed=split_seed, cache_dir=cache_dir)

    scale = scale_of(run)

    def evaluate(model: Model) -> dict[str, float]:
        return run.evaluation.measure(model, readers, scale=scale, split_seed=split_seed)

    checkpoints = folder / CHECKPOINTS_FOLDER
    with LiveProgress(label=label, num_steps=run.num_steps, error=scale.error, is_bar=True, console=console) as live:
        parts = Parts(
            model=run.model,
            sampler=run.sampler,
            reader=readers["train"],
            augment=augment,
            evaluate=evaluate,
            best_by=scale.error,
            log=lambda row: None,
            sync_log=lambda: None,
            show=live.show,
            noise=run.noise,
            checkpoints=checkpoints,
            description={},
        )
        result = train(parts, run.trainer, num_steps=run.num_steps, resume_from=None)
    if result.stopped_by is not None:  # 128 + the signal: the usual exit code after a signal
        raise SystemExit(128 + result.stopped_by)
    found = find_in_run(folder, checkpoint)
    load_weights(run.model, found.path)
    shutil.rmtree(checkpoints)
    precision, batch_size = run.trainer.precision, run.evaluation.batch_size
    losses_N = window_losses(run.model, readers["val"], batch_size=batch_size, precision=precision)
    write_window_scores(folder / _SCORES_FILE, run.data.windows["val"], losses_N)
    record = {
        "learnt": run.data.split.train,
        "scored": run.data.split.val,
        "step": found.step,
        "wall_s": time.perf_counter() - started,
        "commit": code_commit(),
    }
    (folder / _RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")
