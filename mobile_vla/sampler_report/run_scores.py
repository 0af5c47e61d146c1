"""Read the score table of a run from its last checkpoint."""

from __future__ import annotations

from pathlib import Path

from safetensors.numpy import load_file

from mobile_vla.data.dataset import OpenDataset
from mobile_vla.errors import UserError
from mobile_vla.policy.checkpoint_folder import ARRAYS_FILE, find_in_run
from mobile_vla.sampling.scores import Scores
from mobile_vla.tracking.provenance import changed_data
from mobile_vla.untrusted.files import inside, read_json


def scores_of_run(run: Path, data: OpenDataset) -> Scores:
    """Return the scores of the train windows of ``data`` from the last checkpoint of ``run``.

    Raises ``UserError`` if ``run`` has no complete checkpoint of a step above 0, or was trained on other windows.
    """
    checkpoint = find_in_run(run, asked_by="--scores ").path
    manifest = inside(run, "manifest.json")
    if not manifest.is_file():
        raise UserError(f"--scores {run}: holds no manifest.json, so its data are not known. Give the folder of a run.")
    if changed := changed_data(read_json(manifest), data_hash=data.data_hash, split_hash=data.split.hash):
        raise UserError(
            f"--scores {run}: was trained on other windows ({', '.join(changed)}). Give the dataset overrides that it "
            "was trained with: they are in its config.yaml."
        )
    arrays = load_file(checkpoint / ARRAYS_FILE)
    scores = Scores(data.windows["train"], smoothing=0)
    scores.load({name: arrays[f"scores/{name}"] for name in scores.state()})
    if scores.num_seen == 0:
        raise UserError(f"--scores {run}: its last checkpoint is that of step 0, before any loss. Give a later one.")
    return scores
