"""The scenarios of a policy's training episodes in the embedded world, and those held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mobile_vla.data.dataset import OpenDataset
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.schema import Episode
from mobile_vla.sim.scenarios import ALL_SCENARIOS
from mobile_vla.sim.scene import Scenario

_FIELDS = ("boxes", "layout", "side", "placement", "distance")
"""Fields of the file names, in the order of a scenario's name; ``colours`` and ``task`` may follow."""


@dataclass(frozen=True, kw_only=True)
class TrainedScenarios:
    """The scenarios of a policy's data set, stored as the part ``world`` of a checkpoint's ``policy.json``.

    ``image_size`` is the number of rows and of columns of the recorded images, which are square; ``trained`` and
    ``held_out`` are the scenarios of the training episodes and of the episodes held out of training.
    """

    image_size: int
    trained: tuple[Scenario, ...]
    held_out: tuple[Scenario, ...]

    @classmethod
    def of(cls, data: OpenDataset) -> TrainedScenarios:
        """Return the scenarios of a data set; ``ConfigError`` if its files do not come from the embedded world."""
        parts = [[data.episodes[name] for name in names] for names in (data.split.train, data.split.unseen)]
        trained, held_out = (tuple(sorted({_scenario(e) for e in part}, key=lambda s: s.name)) for part in parts)
        sizes = {size for part in parts for episode in part for size in episode.image_sizes}
        if len(sizes) > 1 or any(rows != columns for rows, columns in sizes):
            raise ConfigError(
                f"dataset.world=sim: the images are {', '.join(map(str, sorted(sizes)))}; the embedded world's are "
                "square and of one size. Set dataset.world=null if the episodes come from elsewhere."
            )
        return cls(image_size=sizes.pop()[0], trained=trained, held_out=held_out)

    def described(self) -> dict[str, Any]:
        """Return the scenarios as plain values for JSON; ``from_description`` reads them back."""
        return {
            "image_size": self.image_size,
            "trained": [scenario.name for scenario in self.trained],
            "held_out": [scenario.name for scenario in self.held_out],
        }

    @classmethod
    def from_description(cls, world: Mapping[str, Any] | None) -> TrainedScenarios:
        """Return the scenarios from the output of ``described`` in a checkpoint; ``UserError`` if it is missing."""
        if world is None:
            raise UserError(
                "this policy was not trained on recordings of the embedded world (dataset.world=null), so there is no "
                "world to drive it in. If they are, train with dataset.world=sim."
            )
        try:
            return cls(
                image_size=int(world["image_size"]),
                trained=_parse(world["trained"]),
                held_out=_parse(world["held_out"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the policy's world is {world}; expected image_size, trained and held_out") from error


def _parse(names: Sequence[str]) -> tuple[Scenario, ...]:
    return tuple(Scenario.parse(name) for name in names)


def _scenario(episode: Episode) -> Scenario:
    try:
        words = [episode.fields[name] for name in _FIELDS]
        if "task" in episode.fields:
            words += [episode.fields["colours"], "task", episode.fields["task"]]
        scenario = Scenario.parse("_".join(words))
    except (KeyError, ValueError):
        scenario = None
    if scenario not in ALL_SCENARIOS:
        raise ConfigError(
            f"dataset.world=sim: {episode.path} does not name a scenario of the embedded world, such as "
            "1box_hori_left_core_medium. Set dataset.world=null if the episodes come from elsewhere."
        )
    return scenario
