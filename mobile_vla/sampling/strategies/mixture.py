"""Draw every batch from several samplers, each with its own part: p = sum over samplers of (B_k / B) p_k.

B_k is the batch size times the sampler's weight, rounded to whole windows by the largest remainder method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mobile_vla.errors import ConfigError
from mobile_vla.sampling.contract import Difference, SamplerFactory, ScoreWindows, draw_windows, reason_through
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Mixture:
    """The sampler ``mixture``; each sampler draws as with a batch size of B_k, and its loss weights are kept.

    Raises ``ConfigError`` if samplers and weights do not have the same names, or a sampler would get no window.
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

    @property
    def differs_in(self) -> Difference | None:
        """See ``Sampler.differs_in``: "preference" if any of the samplers has it, else "order" if any has it."""
        found = {sampler.differs_in for sampler in self._samplers}
        return "preference" if "preference" in found else "order" if "order" in found else None

    def draw(self, step: int, scores: Scores, score_windows: ScoreWindows) -> Draw:
        """See ``Sampler.draw``."""
        draws = [draw_windows(sampler, step, scores, score_windows) for sampler in self._samplers]
        return Draw(
            ids=np.concatenate([draw.ids for draw in draws]), weights=np.concatenate([draw.weights for draw in draws])
        )

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``."""
        parts = [sampler.probabilities(step, scores, ids) for sampler in self._samplers]
        return np.average(parts, axis=0, weights=self._shares)

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: a reason only if no sampler of the mixture can differ."""
        # Samplers other than ``shuffled`` come first, because their reasons are more informative.
        ordered = sorted(self._samplers, key=lambda sampler: sampler.differs_in is None)
        reasons = [reason_through(sampler) for sampler in ordered]
        return reasons[0] if all(reasons) else None


def _whole_parts(weights: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Return whole numbers in proportion to ``weights`` that sum to ``total``, by the largest remainder method."""
    exact = weights / weights.sum() * total
    # 1e-9: a product just below a whole number, by rounding, is that whole number.
    whole = np.floor(exact + 1e-9).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: total - whole.sum()]] += 1
    return whole
