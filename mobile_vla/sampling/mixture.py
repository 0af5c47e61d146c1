"""Give each of several samplers its part of every batch: p = sum over samplers of (B_k / B) p_k.

B_k is the batch size times the sampler's weight, rounded by largest remainder to whole windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mobile_vla.errors import ConfigError
from mobile_vla.sampling.contract import Look, SamplerFactory
from mobile_vla.sampling.scores import Scores
from mobile_vla.sampling.shuffled import Shuffled, reason_through
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Mixture:
    """Each sampler draws as it would with a batch of its own size, and keeps the loss weights it gives.

    ``ConfigError`` where samplers and weights do not have the same names, or a sampler would not get one window.
    """

    def __init__(
        self,
        *,
        windows: WindowTable,
        batch_size: int,
        stream: Stream,
        samplers: Mapping[str, SamplerFactory],
        weights: Mapping[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]],
    ) -> None:
        if samplers.keys() != weights.keys() or not samplers:
            raise ConfigError(
                f"sampler.weights names {', '.join(weights) or 'nothing'} and sampler.samplers "
                f"{', '.join(samplers) or 'nothing'}; expected a weight for each sampler (~sampler.weights.NAME and "
                "~sampler.samplers.NAME leave one out)."
            )
        sizes = _whole_parts(np.array([weights[name] for name in samplers]), batch_size)
        if (sizes == 0).any():
            raise ConfigError(
                f"sampler.weights={dict(weights)}: a batch of {batch_size} has no window left for "
                f"{', '.join(name for name, size in zip(samplers, sizes, strict=True) if not size)}. Raise its weight, "
                "or trainer.batch_size."
            )
        self.windows = windows
        self._shares = sizes / batch_size
        self._samplers = [
            sampler(windows=windows, batch_size=size, stream=stream.child(name))
            for (name, sampler), size in zip(samplers.items(), sizes.tolist(), strict=True)
        ]

    def draw(self, step: int, scores: Scores, look: Look) -> Draw:
        """See ``Sampler.draw``."""
        draws = [sampler.draw(step, scores, look) for sampler in self._samplers]
        return Draw(
            ids=np.concatenate([draw.ids for draw in draws]), weights=np.concatenate([draw.weights for draw in draws])
        )

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``."""
        parts = [sampler.probabilities(step, scores, ids) for sampler in self._samplers]
        return np.average(parts, axis=0, weights=self._shares)

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: where no sampler can differ, the first's that is not ``shuffled``."""
        # Those of other samplers say more than that one of them is shuffled.
        ordered = sorted(self._samplers, key=lambda sampler: isinstance(sampler, Shuffled))
        reasons = [reason_through(sampler) for sampler in ordered]
        return reasons[0] if all(reasons) else None


def _whole_parts(weights: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Return whole numbers in proportion to ``weights`` that sum to ``total``; largest remainders are rounded up."""
    exact = weights / weights.sum() * total
    whole = np.floor(exact + 1e-9).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: total - whole.sum()]] += 1
    return whole
