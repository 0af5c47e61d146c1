"""Write the loss of every train window under the policy of a trained run: ``python -m mobile_vla losses``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mobile_vla.augmentation.pipeline import Pipeline
from mobile_vla.config import check_config
from mobile_vla.data.batches import Reader
from mobile_vla.data.dataset import OpenDataset
from mobile_vla.errors import UserError
from mobile_vla.evaluation.data_report import print_warnings
from mobile_vla.features.readers import FeatureReader
from mobile_vla.features.store import open_features
from mobile_vla.policy.checkpoint_folder import find_checkpoint
from mobile_vla.policy.model import Model
from mobile_vla.policy.stored_model import load_stored_model
from mobile_vla.process.console import new_console
from mobile_vla.run.build import build_dataset
from mobile_vla.sampling.score_file import check_suffix, write_window_scores
from mobile_vla.streams import Stream
from mobile_vla.study.summary import read_summary
from mobile_vla.tracking.manifest import read_manifest
from mobile_vla.tracking.provenance import changed_data
from mobile_vla.untrusted.stored_config import load_stored_config, say_data_read
from mobile_vla.window_losses.scoring import window_losses


@dataclass(frozen=True, kw_only=True)
class RunLosses:
    """The command: losses of the run (or the checkpoint) ``source``, written to the file ``out``.

    ``base`` and ``trust`` are as in ``Policy.load``.
    """

    source: Path
    out: Path
    checkpoint: str
    device: str
    base: str | None
    trust: Sequence[str]

    def run(self) -> None:
        """Score the windows that the run was trained on, and write a window score file.

        Raises ``UserError`` if the data have changed since the run was trained.
        """
        check_suffix(self.out)
        found = find_checkpoint(self.source, self.checkpoint)
        folder, console = _run_folder(found), new_console()
        print_warnings(_unfinished(folder), console)
        cfg = load_stored_config(folder, trust=self.trust)
        check_config(cfg)
        torch.set_num_threads(cfg.trainer.num_threads)
        model = self._load_model(found)
        say_data_read(folder, cfg, console)
        data = build_dataset(cfg).open()
        _check_same_data(folder, data)
        reader = _reader(model, data, cache_dir=Path(cfg.dataset.cache_dir))
        precision, batch_size = cfg.trainer.precision, cfg.evaluation.batch_size
        losses_N = window_losses(model, reader, batch_size=batch_size, precision=precision)
        write_window_scores(self.out, reader.windows, losses_N)
        console.print(
            f"{self.out}: {len(losses_N):,} train windows of {len(data.split.train)} episodes, mean loss "
            f"{losses_N.mean():.4f} under {found}",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )

    def _load_model(self, found: Path) -> Model:
        try:
            where = torch.empty(0, device=self.device).device
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f"--device {self.device}: not usable here; expected cpu, or cuda where there is one"
            ) from error
        model, _ = load_stored_model(found, base=self.base, trust=self.trust)
        return model.to(where)


def _run_folder(checkpoint: Path) -> Path:
    folder = checkpoint.resolve().parents[1]
    if missing := [name for name in ("config.yaml", "manifest.json") if not (folder / name).is_file()]:
        raise UserError(f"{folder}: holds no {missing[0]}, so its data are not known. Give the folder of a run.")
    return folder


def _unfinished(folder: Path) -> list[str]:
    status = read_summary(folder).get("status", "not recorded")
    if status == "done":
        return []
    return [
        f"{folder} is not done (its status is {status}): these are the losses of a policy that is not fully trained"
    ]


def _check_same_data(folder: Path, data: OpenDataset) -> None:
    manifest = read_manifest(folder)
    if changed := changed_data(manifest, data_hash=data.data_hash, split_hash=data.split.hash):
        raise UserError(
            f"{folder}: the data are no longer those the run was trained on ({', '.join(changed)}). Put the episodes "
            "back as they were, or train a new run."
        )


def _reader(model: Model, data: OpenDataset, *, cache_dir: Path) -> Reader:
    """Return a reader of the train windows without augmentation; with cached features if the backbone is frozen."""
    reader = data.readers["train"]
    if model.backbone.feature_key is None:
        return reader
    # An empty pipeline and no variants: only the features of the images as recorded.
    nothing = Pipeline(transforms={}, stream=Stream(0, "variants"))
    key = model.backbone.feature_key
    store = open_features(model, data, key=key, augment=nothing, num_variants=0, cache_dir=cache_dir)
    return FeatureReader(reader, store)
