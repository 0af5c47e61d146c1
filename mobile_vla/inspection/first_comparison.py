"""A first comparison on a data set: the samplers that can show something on it, and the time that it will take."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from mobile_vla.data.batches import WindowReader
from mobile_vla.data.dataset import Dataset, OpenDataset, Scan
from mobile_vla.data.frames import FrameStore, decode_into
from mobile_vla.data.reading.process import ask
from mobile_vla.errors import UserError
from mobile_vla.evaluation.offline import predict_windows
from mobile_vla.evaluation.shortcut_probes import PROBES
from mobile_vla.process.cores import num_processes
from mobile_vla.run.build import PRETRAINED_BACKBONE, build_dataset, build_model, build_trainer
from mobile_vla.sampler_report.shipped import reasons_against
from mobile_vla.streams import Stream
from mobile_vla.text import duration
from mobile_vla.training.options import Trainer

BASELINE = "shuffled"

CANDIDATES = {
    "sequential": "does the recorded order harm, in which many loaders read?",
    "random_temporal": "does it matter that long episodes have more windows?",
    "stratified": "does it help to draw all scenarios equally often?",
    "action_balanced": "does it help to draw rare actions more often?",
    "hard_negative": "does it help to draw what the policy gets wrong?",
}
"""Samplers that a first comparison tries, where they can differ from the baseline: the question of each."""

_WARM_UP, _MEASURED = 2, 6


@dataclass(frozen=True, kw_only=True)
class WorthTrying:
    """The samplers of a first comparison with their questions, and why each of the other candidates is left out."""

    questions: Mapping[str, str]
    left_out: Mapping[str, str]


def samplers_worth_trying(data: OpenDataset, cfg: DictConfig) -> WorthTrying:
    """Return the candidates that can differ from the baseline on ``data``."""
    against = reasons_against(data.readers["train"], trainer=cfg.trainer, stream=Stream(cfg.seed, "sampler"))
    return WorthTrying(
        questions={name: question for name, question in CANDIDATES.items() if name not in against},
        left_out={name: against[name] for name in CANDIDATES if name in against},
    )


def open_for_report(cfg: DictConfig) -> tuple[Dataset, Scan, OpenDataset]:
    """Return the data of ``cfg`` without pixels: the data set's options, what was read, and the open data set."""
    dataset = build_dataset(cfg)
    scan = dataset.scan()
    return dataset, scan, dataset.open(scan, with_pixels=False)


@dataclass(frozen=True, kw_only=True)
class TimeEstimate:
    """Seconds that decoding all frames takes, once, and seconds of one run; measured on this machine."""

    decode_s: float
    run_s: float

    def sentence(self, num_runs: int) -> str:
        """Return the time of ``num_runs`` runs, one after the other."""
        total = self.decode_s + num_runs * self.run_s
        decoding = f"{duration(self.decode_s)} to decode all frames once, " if self.decode_s >= 1 else ""
        return (
            f"about {duration(total)} here: {decoding}{num_runs} runs of {duration(self.run_s)} "
            "(without the extra passes of samplers that look at losses)"
        )


def estimate_time(cfg: DictConfig, dataset: Dataset, scan: Scan, data: OpenDataset) -> TimeEstimate | None:
    """Return the measured times of a run on ``data``, within seconds; None for a pretrained backbone.

    A few steps are trained on black images, as the time does not depend on what they show.
    """
    if cfg.model.backbone._target_ == PRETRAINED_BACKBONE:
        return None
    trainer = build_trainer(cfg)
    return TimeEstimate(decode_s=_decoding_s(dataset, scan), run_s=_run_s(cfg, trainer, dataset, data))


def _decoding_s(dataset: Dataset, scan: Scan) -> float:
    """Return the seconds that decoding takes, from the shortest episode; 0 where the frames are decoded already."""
    assert scan.spec is not None
    recordings = list(scan.recordings.values())
    if dataset.is_decoded(scan):
        return 0.0
    shortest = min(recordings, key=lambda recording: recording.num_frames)
    seconds = 0.0
    with tempfile.NamedTemporaryFile() as file:
        for camera in scan.spec.camera_names:
            started = time.perf_counter()
            arguments = (scan.source, shortest, camera, Path(file.name), 0, dataset.image)
            try:
                ask(decode_into, shortest.path, *arguments)
            except UserError:
                continue  # a bad episode: building the cache will name it
            seconds += time.perf_counter() - started
    num_frames = sum(recording.num_frames for recording in recordings)
    return seconds * num_frames / shortest.num_frames / num_processes(dataset.num_workers)


def _run_s(cfg: DictConfig, trainer: Trainer, dataset: Dataset, data: OpenDataset) -> float:
    torch.set_num_threads(trainer.num_threads)
    device = trainer.torch_device()
    model = build_model(cfg, data).to(device)
    readers = {part: _black(reader, dataset, data) for part, reader in data.readers.items()}
    train = readers["train"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = np.arange(trainer.batch_size) % len(train.windows)
    step_s = []
    for _ in range(_WARM_UP + _MEASURED):
        started = time.perf_counter()
        loss = model(train.gather(ids).to(device)).loss_B.mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        step_s.append(time.perf_counter() - started)
    num_evaluated = min(cfg.evaluation.batch_size, len(train.windows))
    started = time.perf_counter()
    predict_windows(model, train, np.arange(num_evaluated), batch_size=cfg.evaluation.batch_size)
    window_s = (time.perf_counter() - started) / num_evaluated
    num_steps = trainer.num_steps(len(train.windows))
    num_val = sum(len(readers[part].windows) for part in readers if part != "train") + cfg.evaluation.probe_windows
    num_evaluations = num_steps // trainer.eval_every + 1
    if cfg.evaluation.shortcuts:
        num_cameras = len(data.spec.cameras)
        num_evaluations += 1 + len(PROBES) + bool(data.spec.state) + (num_cameras if num_cameras > 1 else 0)
    return num_steps * float(np.median(step_s[_WARM_UP:])) + num_evaluations * num_val * window_s


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
