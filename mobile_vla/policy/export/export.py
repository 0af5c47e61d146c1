"""Write a checkpoint as a folder that can be published; the command ``python -m mobile_vla export``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import UserError
from mobile_vla.policy.checkpoint_folder import find_checkpoint
from mobile_vla.policy.description import DESCRIPTION_FILE, PolicyDescription
from mobile_vla.policy.digests import seal
from mobile_vla.policy.export.model_card import PretrainedBase, model_card
from mobile_vla.policy.export.records import Records
from mobile_vla.policy.model import Model
from mobile_vla.policy.policy import Policy
from mobile_vla.policy.stored_model import load_stored_model, recorded_base, with_backbone
from mobile_vla.policy.weights import ADAPTER_FOLDER, BASE_FOLDER, save_weights
from mobile_vla.process.console import new_console
from mobile_vla.storage.disk import storage_errors

if TYPE_CHECKING:
    from mobile_vla.policy.backbones.vlm import VlmBackbone

_NUM_IMAGES = 8


@dataclass(frozen=True, kw_only=True)
class Export:
    """The export of the ``checkpoint`` of the run ``source`` into the new or empty folder ``out``.

    ``base`` is the folder or hub name of the pretrained weights, as in ``Policy.load``; a hub name is written into the
    exported policy. ``merge`` merges the adapter into the pretrained weights and writes the result to ``out/base``.
    """

    source: Path
    out: Path
    checkpoint: str
    merge: bool
    base: str | None
    trust: Sequence[str]

    def run(self) -> None:
        """Write policy.json, model.safetensors, adapter or merged base, digests.json and the model card README.md.

        Raises ``UserError``, before anything is written, if there is nothing to export or no room for it. An export
        that fails later removes what it has written.
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
        except BaseException:  # also Ctrl-C: a half-written folder must not be published by mistake
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
        """Write the trained weights alone; the description names the pretrained ones by a place that others can use."""
        from mobile_vla.policy.backbones.vlm import VlmBackbone  # here and below: only a pretrained policy needs peft

        backbone = model.backbone
        if not isinstance(backbone, VlmBackbone):  # the user's own class: the card describes no family of it
            _write(model, description, self.out)
            return None
        backbone.weights = self._published_name(recorded)
        _write(model, with_backbone(description, weights=backbone.weights), self.out)
        return self._pretrained(backbone, recorded, difference=None)

    def _write_merged(self, model: Model, description: PolicyDescription) -> PretrainedBase:
        from mobile_vla.policy.backbones.vlm import VlmBackbone
        from mobile_vla.policy.export.merge import merge_adapter

        # Rounding to the base's dtype may change actions, so compare before the merge with what is read back.
        apart = _actions(Policy(model, description, folder=self.out))
        merged = merge_adapter(model, description, self.out)
        _write(model, merged, self.out)
        read_back = _actions(Policy.load(self.out, trust=self.trust))
        assert isinstance(model.backbone, VlmBackbone)
        recorded = recorded_base(description)
        assert recorded is not None
        return self._pretrained(model.backbone, recorded, difference=float(np.abs(read_back - apart).max()))

    def _pretrained(self, backbone: VlmBackbone, recorded: str, *, difference: float | None) -> PretrainedBase:
        from mobile_vla.policy.backbones.pretrained import is_hub_name

        name = self._published_name(recorded)
        return PretrainedBase(
            name=name,
            is_hub_name=is_hub_name(name),
            hash=str(backbone.base_hash),
            family=backbone.base.config.model_type,
            difference=difference,
        )

    def _published_name(self, recorded: str) -> str:
        """Return the name of the weights for other machines: a hub name if ``base`` or ``recorded`` is one."""
        from mobile_vla.policy.backbones.pretrained import is_hub_name

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
                f"policy.json names a folder of this machine, {pretrained.name}: elsewhere it loads only with --base. "
                f"Give --base HUB_NAME where the weights have one{', or --merge' if self._has_adapter() else ''}."
            )
        say(f"README.md states no licence: add one, then publish it: hf upload OWNER/NAME {self.out}")


def _write(model: Model, description: PolicyDescription, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder)
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description.to_json(), indent=1) + "\n")
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors creates files that only their owner can read
    seal(folder)


def _num_bytes(model: Model) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def _remove(out: Path, *, keep_folder: bool) -> None:
    """Remove what a failed export has written."""
    shutil.rmtree(out, ignore_errors=True)
    if keep_folder:
        out.mkdir(exist_ok=True)


def _actions(policy: Policy) -> NDArray[np.float32]:
    """Return the actions [N, K, A] of ``policy`` for a few random images and states of one episode."""
    spec, shape = policy.description.spec, (_NUM_IMAGES, *policy.description.image.size, 3)
    random = np.random.default_rng(0)
    images_VNYXC = [random.integers(0, 256, shape, dtype=np.uint8) for _ in spec.cameras]
    states_NS = random.normal(size=(_NUM_IMAGES, len(spec.state)))
    instruction = next(iter(policy.description.instructions), "")
    return np.stack(
        [
            policy.act(
                dict(zip(spec.camera_names, views, strict=True)), instruction, state=state_S if spec.state else None
            )
            for state_S, *views in zip(states_NS, *images_VNYXC, strict=True)
        ]
    )
