"""Write a checkpoint as a folder to publish: what ``python -m mobile_vla export`` does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_vla.disk import storage_errors
from mobile_vla.errors import UserError
from mobile_vla.model_card import PretrainedBase, Records, model_card
from mobile_vla.policy.backbones.pretrained import is_hub_name
from mobile_vla.policy.backbones.vlm import VlmBackbone
from mobile_vla.policy.checkpoint_folder import find_checkpoint
from mobile_vla.policy.description import DESCRIPTION_FILE, PolicyDescription
from mobile_vla.policy.digests import seal
from mobile_vla.policy.merge import merge_adapter
from mobile_vla.policy.model import Model
from mobile_vla.policy.policy import Policy
from mobile_vla.policy.stored_model import load_stored_model, recorded_base, with_backbone
from mobile_vla.policy.weights import ADAPTER_FOLDER, BASE_FOLDER, save_weights
from mobile_vla.terminal import new_console

_NUM_IMAGES = 8


@dataclass(frozen=True, kw_only=True)
class Export:
    """What is to be exported: the ``checkpoint`` of the run ``source``, into the new or empty folder ``out``.

    ``base`` is where the pretrained weights lie, as in ``Policy.load``; if it is a hub name, the exported policy names
    it. ``merge`` merges the adapter into them and writes the sum to ``out/base``.
    """

    source: Path
    out: Path
    checkpoint: str
    merge: bool
    base: str | None
    trust: Sequence[str]

    def run(self) -> None:
        """Write policy.json, model.safetensors, the adapter or the merged base, digests.json, and README.md, the card.

        Raises ``UserError``, before anything is written, where there is nothing to export or no room for it.
        """
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise UserError(
                f"{self.out}: exists and is no empty folder; give a new one, so that nothing is overwritten"
            )
        found = find_checkpoint(self.source, self.checkpoint)
        records = Records.of(found)
        model, description = load_stored_model(found, base=self.base, trust=self.trust)
        recorded = recorded_base(description)
        if recorded == BASE_FOLDER and (found / BASE_FOLDER).is_dir():
            raise UserError(f"{found}: was exported with --merge and is whole; copy it as it is")
        was_there = self.out.exists()
        try:
            with storage_errors(self.out, what="the export", num_bytes=lambda: _num_bytes(model), partial=self.out):
                pretrained = self._write(model, description, recorded)
                model_card(description, pretrained, records, trust=self.trust).save(self.out / "README.md")
        except BaseException:
            _remove(self.out, keep_folder=was_there)
            raise
        self._report(pretrained)

    def _write(self, model: Model, description: PolicyDescription, recorded: str | None) -> PretrainedBase | None:
        if self.merge:
            return self._write_merged(model, description)
        if recorded is not None:
            return self._write_apart(model, description, recorded)
        _write(model, description, self.out)
        return None

    def _write_apart(self, model: Model, description: PolicyDescription, recorded: str) -> PretrainedBase | None:
        """Write what was learnt beside the pretrained weights, which are named by where others find them."""
        backbone = model.backbone
        if not isinstance(backbone, VlmBackbone):  # a class of the user's own
            _write(model, description, self.out)
            return None
        backbone.weights = self._published_name(recorded)
        _write(model, with_backbone(description, weights=backbone.weights), self.out)
        return self._pretrained(backbone, recorded, difference=None)

    def _write_merged(self, model: Model, description: PolicyDescription) -> PretrainedBase:
        apart = _actions(Policy(model, description, folder=self.out))
        merged = merge_adapter(model, description, self.out)
        _write(model, merged, self.out)
        read_back = _actions(Policy.load(self.out, trust=self.trust))
        assert isinstance(model.backbone, VlmBackbone)
        recorded = recorded_base(description)
        assert recorded is not None
        return self._pretrained(model.backbone, recorded, difference=float(np.abs(read_back - apart).max()))

    def _pretrained(self, backbone: VlmBackbone, recorded: str, *, difference: float | None) -> PretrainedBase:
        name = self._published_name(recorded)
        return PretrainedBase(
            name=name,
            is_hub_name=is_hub_name(name),
            hash=backbone.base_hash,
            family=backbone.base.config.model_type,
            difference=difference,
        )

    def _published_name(self, recorded: str) -> str:
        """Return where others find the weights: a hub name where ``base`` or ``recorded`` is one."""
        names = [name for name in (self.base, recorded) if name is not None]
        return next(filter(is_hub_name, names), names[0])

    def _has_adapter(self) -> bool:
        return (self.out / ADAPTER_FOLDER).exists()

    def _report(self, pretrained: PretrainedBase | None) -> None:
        console = new_console()

        def say(text: str) -> None:
            console.print(text, soft_wrap=True, markup=False, highlight=False)

        size = sum(path.stat().st_size for path in self.out.rglob("*") if path.is_file())
        say(f"{self.out}: {', '.join(sorted(path.name for path in self.out.iterdir()))}; {size / 2**20:.1f} MiB")
        if pretrained and pretrained.difference is not None:
            say(f"merged: on {_NUM_IMAGES} random images no action changed by more than {pretrained.difference:.1e}")
        elif pretrained and not pretrained.is_hub_name:
            say(
                f"policy.json names a folder of this machine, {pretrained.name}: elsewhere it loads with --base only. "
                f"Give --base HUB_NAME where the weights have one{', or --merge' if self._has_adapter() else ''}."
            )
        say(f"README.md states no licence: add one, then publish it: hf upload OWNER/NAME {self.out}")


def _write(model: Model, description: PolicyDescription, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder)
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description.to_json(), indent=1) + "\n")
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes files that only their owner reads
    seal(folder)


def _num_bytes(model: Model) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def _remove(out: Path, *, keep_folder: bool) -> None:
    """Remove what a failed export has written."""
    shutil.rmtree(out, ignore_errors=True)
    if keep_folder:
        out.mkdir(exist_ok=True)


def _actions(policy: Policy) -> NDArray[np.float32]:
    """Return what ``policy`` answers to a few random images of one episode: [N, K, A]."""
    rows, columns = policy.description.image.size
    images_NYXC = np.random.default_rng(0).integers(0, 256, (_NUM_IMAGES, rows, columns, 3), dtype=np.uint8)
    instruction = next(iter(policy.description.instructions), "")
    return np.stack([policy.act(image, instruction) for image in images_NYXC])
