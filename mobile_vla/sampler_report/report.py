"""Report what a sampler draws, without training: the command ``python -m mobile_vla sampler``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from mobile_vla.config import check_config, compose_config
from mobile_vla.errors import ConfigError
from mobile_vla.evaluation.data_report import print_warnings
from mobile_vla.process.console import new_console
from mobile_vla.run.build import build_dataset, build_sampler
from mobile_vla.sampler_report.loss_dependence import goes_by_losses
from mobile_vla.sampler_report.picture import draw_picture
from mobile_vla.sampler_report.rehearsal import Rehearsal, rehearse
from mobile_vla.sampler_report.run_scores import scores_of_run
from mobile_vla.sampler_report.shares import shares_by_episode
from mobile_vla.sampler_report.tables import print_rehearsal
from mobile_vla.sampling.scores import Scores
from mobile_vla.streams import Stream
from mobile_vla.training.options import budget

_DEFAULT_OUT = Path("outputs/samplers")


@dataclass(frozen=True, kw_only=True)
class SamplerReport:
    """A report on the draws of the sampler ``name`` with ``overrides``: tables, and a picture in the folder ``out``.

    ``steps`` None: as many as a run would have. ``scores`` is the folder of a run whose losses the sampler gets; None:
    all losses are equal.
    """

    name: str
    overrides: Sequence[str]
    steps: int | None
    scores: Path | None
    out: Path | None

    def run(self) -> None:
        """Simulate the draws of a run, print the tables, write the picture, and warn about options without effect."""
        overrides = self._all_overrides()
        cfg = compose_config(overrides)
        check_config(cfg, overrides=overrides)
        data = build_dataset(cfg).open()
        reader, batch_size = data.readers["train"], cfg.trainer.batch_size
        sampler = build_sampler(cfg.sampler, reader, batch_size=batch_size, stream=Stream(cfg.seed, "sampler"))
        known = scores_of_run(self.scores, data) if self.scores else None
        # No Trainer is built here, because it would require the device that the config names.
        steps, epochs = cfg.trainer.steps, cfg.trainer.epochs
        num_steps = budget(steps=steps, epochs=epochs, batch_size=batch_size, num_windows=len(reader.windows))
        rehearsal = rehearse(sampler, batch_size=batch_size, num_steps=num_steps, known=known)
        is_adaptive = goes_by_losses(sampler, num_steps=num_steps)

        console = new_console(highlight=False)
        lines = [" ".join([f"sampler={self.name}", *self.overrides]), _budget_in_words(rehearsal)]
        if is_adaptive:
            lines.append(self._losses(known))
        console.print(Text("\n".join(lines), style="bold"))
        print_rehearsal(rehearsal, console)
        warnings = []
        if reason := sampler.no_effect_reason():
            warnings.append(f"sampler={self.name} cannot differ from shuffled here: {reason}")
        if self.scores is not None and not is_adaptive:
            warnings.append(f"--scores {self.scores} has no effect: the sampler draws the same with any losses")
        print_warnings(warnings, console)
        path = (self.out or _DEFAULT_OUT) / f"{self.name}{self._digest()}.png"
        draw_picture(rehearsal, path, title=lines[0], subtitle="\n".join(lines[1:]))
        console.print(f"picture: {path}", soft_wrap=True, markup=False)

    def _all_overrides(self) -> list[str]:
        for override in self.overrides:
            if override.startswith("sampler="):
                raise ConfigError(f"{override}: the sampler is already given as NAME ({self.name}); leave it out")
            if self.steps is not None and override.startswith(("trainer.steps=", "trainer.epochs=")):
                raise ConfigError(f"{override}: --steps {self.steps} sets the budget already; leave one of them out")
        steps = [] if self.steps is None else [f"trainer.steps={self.steps}", "trainer.epochs=null"]
        return [f"sampler={self.name}", *self.overrides, *steps]

    def _losses(self, known: Scores | None) -> str:
        if known is None:
            return "as if all losses were equal (--scores RUN takes those of a run)"
        num_unseen = len(known.loss) - known.num_seen
        unseen = f"; {num_unseen:,} windows that it never drew have none" if num_unseen else ""
        return f"losses from the last checkpoint of {self.scores}{unseen}"

    def _digest(self) -> str:
        """Return a file name suffix for these options, so that other options do not overwrite the picture."""
        options = [*self.overrides, *([f"--steps={self.steps}"] if self.steps else [])]
        options += [f"--scores={self.scores}"] if self.scores else []
        return f"-{hashlib.blake2b(json.dumps(options).encode(), digest_size=4).hexdigest()}" if options else ""


def _budget_in_words(rehearsal: Rehearsal) -> str:
    num_windows, num_episodes = len(rehearsal.windows), len(shares_by_episode(rehearsal))
    return (
        f"{rehearsal.num_steps:,} steps of {rehearsal.batch_size}: {rehearsal.num_draws:,} draws, "
        f"{rehearsal.num_draws / num_windows:.1f} passes over {num_windows:,} windows of {num_episodes:,} episodes"
    )
