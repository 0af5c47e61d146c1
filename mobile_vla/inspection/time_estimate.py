"""The time of a first comparison, measured within seconds: the run's own steps on black images, some decoded frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from mobile_vla.data.batches import WindowReader
from mobile_vla.data.dataset import Dataset, OpenDataset, Scan
from mobile_vla.data.frames import FrameStore
from mobile_vla.errors import DataError
from mobile_vla.evaluation.offline import Evaluation, predict_windows
from mobile_vla.evaluation.shortcut_probes import num_probes
from mobile_vla.inspection.decoding_speed import decoding_speed
from mobile_vla.metrics import LOSS
from mobile_vla.policy.model import Model
from mobile_vla.process.cores import num_processes
from mobile_vla.run.build import (
    PRETRAINED_BACKBONE,
    build_augmentation,
    build_evaluation,
    build_model,
    build_sampler,
    build_trainer,
)
from mobile_vla.streams import Stream
from mobile_vla.text import counted, duration
from mobile_vla.training.forward_passes import ForwardPasses
from mobile_vla.training.gradient import autocast
from mobile_vla.training.loop import Parts, take_step
from mobile_vla.training.options import Trainer
from mobile_vla.training.state import TrainState

_WARM_UP, _MEASURED = 2, 6
"""Steps: the first ones allocate memory and choose kernels."""


@dataclass(frozen=True, kw_only=True)
class TimeEstimate:
    """Seconds of one run and seconds that decoding all frames takes, once; ``basis`` is what was measured for them.

    ``decode_s`` is None where no episode could be decoded; ``basis`` then has the cause.
    """

    decode_s: float | None
    run_s: float
    basis: str

    def sentence(self, num_runs: int) -> str:
        """Return the time of ``num_runs`` runs, one after the other, and what it rests on."""
        total = (self.decode_s or 0.0) + num_runs * self.run_s
        decoding = f"{duration(self.decode_s)} to decode all frames once, " if (self.decode_s or 0) >= 1 else ""
        runs = f"{counted(num_runs, 'run')} of {duration(self.run_s)}"
        return f"about {duration(total)} here: {decoding}{runs}. {self.basis}"


def estimate_time(cfg: DictConfig, dataset: Dataset, scan: Scan, data: OpenDataset) -> TimeEstimate | None:
    """Return the measured times of a run on ``data``, within seconds; None for a pretrained backbone.

    The steps are those of the run: its sampler, augmentation, micro-batches and precision, on its device. The images
    are black, as the time does not depend on what they show. Raises what building the model raises.
    """
    if cfg.model.backbone._target_ == PRETRAINED_BACKBONE:
        return None
    trainer = replace(build_trainer(cfg), compile=False)
    decode_s, of_decoding = _decoding(dataset, scan)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(trainer.num_threads)
    try:
        run_s = _run_s(cfg, trainer, dataset, data)
    finally:
        torch.set_num_threads(num_threads)
        torch.cuda.empty_cache()  # the sweep's jobs may be other processes; without a GPU this does nothing
    basis = (
        f"Measured: {_MEASURED} steps of {trainer.batch_size} windows ({trainer.precision}, {trainer.torch_device()}) "
        f"on black images; {of_decoding}. Not counted: checkpoints, drives, and the extra passes of samplers that look "
        "at losses"
    )
    compiled = ", and what trainer.compile saves and costs" if cfg.trainer.compile else ""
    return TimeEstimate(decode_s=decode_s, run_s=run_s, basis=f"{basis}{compiled}.")


def _decoding(dataset: Dataset, scan: Scan) -> tuple[float | None, str]:
    """Return the seconds that decoding all frames takes, and what they rest on; None where no frame can be decoded."""
    assert scan.spec is not None
    if dataset.is_decoded(scan):
        return 0.0, "all frames are decoded already"
    recordings = list(scan.recordings.values())
    cameras = scan.spec.camera_names
    try:
        speed = decoding_speed(scan.source, recordings, cameras=cameras, image=dataset.image)
    except DataError as error:  # the report names bad files where they are decoded; here only the time is unknown
        return None, f"the time to decode the frames is unknown, because a try failed ({error})"
    num_frames = sum(recording.num_frames for recording in recordings)
    processes = min(num_processes(dataset.num_workers), len(recordings) * len(cameras))
    said = f"{speed.num_frames} frames of {speed.episode}, of median length, decoded by one of {processes} process(es)"
    return num_frames * speed.s_per_frame / processes, said


def _run_s(cfg: DictConfig, trainer: Trainer, dataset: Dataset, data: OpenDataset) -> float:
    evaluation = build_evaluation(cfg)
    num_windows = {part: len(reader.windows) for part, reader in data.readers.items()}
    train = _black(data.readers["train"], dataset, data)
    num_steps = trainer.num_steps(num_windows["train"])
    with torch.random.fork_rng(devices=[]):  # a step seeds the global generator
        model = build_model(cfg, data)
        step_s = _step_s(cfg, trainer, train, model=model, data=data, num_steps=num_steps)
        window_s = _window_s(evaluation, trainer, train, model=model)
    evaluated = sum(number for part, number in num_windows.items() if part != "train")
    evaluated += min(evaluation.probe_windows, num_windows["train"])
    passes_at_end = 1 + (num_probes(data.spec) if evaluation.shortcuts else 0)
    num_predicted = (num_steps // trainer.eval_every + 1) * evaluated + passes_at_end * num_windows["val"]
    return num_steps * step_s + num_predicted * window_s


def _step_s(
    cfg: DictConfig, trainer: Trainer, train: WindowReader, *, model: Model, data: OpenDataset, num_steps: int
) -> float:
    """Return the median seconds of a step of the run's own loop."""
    parts = Parts(
        model=model,
        sampler=build_sampler(cfg.sampler, train, batch_size=trainer.batch_size, stream=Stream(cfg.seed, "sampler")),
        reader=train,
        augment=build_augmentation(cfg.augmentation, data.spec, stream=Stream(cfg.seed, "augmentation")),
        evaluate=lambda _: {},
        best_by=LOSS,
        log=lambda _: None,
        sync_log=lambda: None,
        show=lambda _step, _row: None,
        noise=Stream(cfg.seed, "noise"),
        checkpoints=Path(),  # none is written
        description={},
    )
    state = TrainState.begin(model, train.windows, trainer)
    passes = ForwardPasses(model, train, trainer, parts.noise.child("look"))
    seconds = [
        _seconds(lambda: take_step(state, parts, trainer, passes=passes, num_steps=num_steps), device=state.device)
        for _ in range(_WARM_UP + _MEASURED)
    ]
    return float(np.median(seconds[_WARM_UP:]))


def _window_s(evaluation: Evaluation, trainer: Trainer, train: WindowReader, *, model: Model) -> float:
    """Return the seconds that an evaluation takes for a window, in the precision of the run's evaluations."""
    ids = np.arange(min(evaluation.batch_size, len(train.windows)))
    device = trainer.torch_device()

    def predict() -> None:
        with autocast(trainer.precision, device):
            predict_windows(model, train, ids, batch_size=evaluation.batch_size)

    seconds = [_seconds(predict, device=device) for _ in range(2)]  # the first one warms up
    return seconds[-1] / len(ids)


def _seconds(work: Callable[[], object], *, device: torch.device) -> float:
    """Return the seconds of ``work``, with what it left to do on a GPU, which runs on its own."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _black(reader: WindowReader, dataset: Dataset, data: OpenDataset) -> WindowReader:
    num_frames = sum(episode.num_frames for episode in data.episodes.values())
    black_FYXC = np.broadcast_to(np.uint8(0), (num_frames, *dataset.image.size, 3))  # takes no memory
    ends = np.cumsum([episode.num_frames for episode in data.episodes.values()]).tolist()
    return WindowReader(
        windows=reader.windows,
        episodes=data.episodes,
        frames=FrameStore(
            cameras=dict.fromkeys(data.spec.camera_names, black_FYXC),
            first_row=dict(zip(data.episodes, [0, *ends], strict=False)),
            key="",
        ),
        window_size=dataset.window_size,
        fwd_pred_next_n=dataset.fwd_pred_next_n,
    )
