"""A compiled model learns and says what the same model does without."""

from __future__ import annotations

from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tiny_runs import compose_config
from training_runs import train_run

from mobile_vla.policy.model import Model
from mobile_vla.run.build import build_run
from mobile_vla.schema import Batch


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_a_compiled_run_equals_a_plain_one(
    tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All of torch.compile but its code generator, which takes a minute of C++ for these few layers.
    monkeypatch.setattr(Model, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    logged, names = [], []
    for is_compiled in (False, True):
        run = build_run(compose_config([*tiny, "trainer.steps=2", f"trainer.compile={is_compiled}"]))
        batch = run.data.readers["val"].gather(np.arange(8))

        @torch.no_grad()
        def evaluate(model: Model, batch: Batch = batch) -> dict[str, float]:
            model.eval()
            answer = model(batch)
            model.train()
            return {"val/rmse": float(answer.actions_BKA.square().mean()), "val/loss": float(answer.loss_B.mean())}

        folder = tmp_path / str(is_compiled)
        _, rows = train_run(run, folder, evaluate=evaluate)
        logged.append([[row.get(key, 0) for key in ("train/loss", "val/rmse", "val/loss")] for row in rows])
        with safe_open(next(folder.glob("step-*")) / "model.safetensors", "pt") as file:
            names.append(sorted(file.keys()))
        assert (run.model._compiled_call_impl is not None) == is_compiled

    np.testing.assert_allclose(logged[1], logged[0], rtol=1e-4)
    assert names[0] == names[1]
