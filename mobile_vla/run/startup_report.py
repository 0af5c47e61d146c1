"""The report printed before a job trains, and the lines printed at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.text import Text

from mobile_vla.config import options_marked
from mobile_vla.evaluation.data_report import DataReport, print_data_report, print_warnings
from mobile_vla.features.readers import feature_warnings
from mobile_vla.metric_text import no_better_than
from mobile_vla.metrics import shown
from mobile_vla.run.build import Run
from mobile_vla.sampling.contract import CHANGES_THE_SAMPLER
from mobile_vla.training.resume import Origin

if TYPE_CHECKING:
    from mobile_vla.policy.estimate.step import Estimate


def print_startup_report(
    run: Run, report: DataReport, *, manifest: Mapping[str, Any], origin: Origin | None, console: Console
) -> None:
    """Print the data, what will be trained and driven, and all warnings in one block."""
    console.rule(Text(str(manifest["run_id"]), style="bold"))
    print_data_report(report, console)
    trainable, total = run.model.num_parameters()
    console.print(
        f"training {f'from step {origin.step} ' if origin else ''}to step {run.num_steps}, {run.trainer.batch_size} "
        f"windows a step, {run.trainer.torch_device()}; {trainable:,} of {total:,} weights are trained",
        soft_wrap=True,
    )
    drives = "no drives (dataset.world is null, or closed_loop=none)"
    if run.closed_loop is not None:
        drives = f"{run.closed_loop.episodes} drives in each of {', '.join(run.closed_loop.suites)}"
    console.print(f"closed loop: {drives}", soft_wrap=True)
    warnings = [*run.data.warnings, *report.warnings(), *feature_warnings(run.model)]
    if reason := run.sampler.no_effect_reason():
        warnings.append(f"sampler={manifest['sampler']} cannot differ from shuffled on this data: {reason}")
    changes = options_marked(CHANGES_THE_SAMPLER, run.config["sampler"], path="sampler")
    warnings += [
        f"{key}={step} is after the last step, {run.num_steps}: the sampler does not reach it"
        for key, step in changes
        if step > run.num_steps
    ]
    warnings += origin.damaged if origin else ()
    planned = origin.manifest["num_steps"] if origin else run.num_steps
    if planned != run.num_steps:
        if run.trainer.schedule.depends_on_the_end:
            warnings.append(
                f"the learning rate was to end at step {planned} and now ends at step {run.num_steps}: it jumps where "
                "the run goes on, and the curves are not those of one run of this length "
                "(trainer.schedule.decay_steps sets the end)"
            )
        warnings += [
            f"{key}={planned} stays as the run began, though it now ends at step {run.num_steps}"
            for key, step in changes
            if step == planned
        ]
    if origin is not None and origin.overrides:
        console.print(
            f"only for this call: {' '.join(origin.overrides)}; the run is still planned for {planned} steps",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
    print_warnings(warnings, console)


def show_estimate(estimate: Estimate, console: Console) -> None:
    """Print the memory and time that a pretrained backbone will need, and what the machine has."""
    from mobile_vla.policy.backbones.vlm import DTYPES
    from mobile_vla.policy.estimate.device import available_bytes, matmul_flops_per_s
    from mobile_vla.policy.estimate.fit import print_estimate

    device = torch.device(estimate.workload.device_type)
    flops_per_s = matmul_flops_per_s(device, DTYPES[estimate.options.dtype], seconds=0.2)
    print_estimate(estimate, console, available_bytes=available_bytes(device), flops_per_s=flops_per_s)


def print_end(status: str, known: Mapping[str, Any], *, error: str, console: Console) -> None:
    """Print the final metrics of a run from its summary values ``known``, and the paths of its checkpoints.

    If the run is done, a line names every reference predictor whose ``error`` on val is not higher.
    """
    figures = "  ".join(f"{key} {known[key]:.4f}" for key in shown("end", error=error) if known.get(key))
    by = f" by {known['stopped_by']}" if "stopped_by" in known else ""
    end = f" after {known['steps']} steps, {known['wall_s']:.0f} s: {figures}"
    console.print(Text(f"{status}{by}", style="bold") + console.render_str(end), soft_wrap=True)
    if status == "done" and (sentence := no_better_than(known, error=error)):
        console.print(Text(sentence, style="yellow"), soft_wrap=True)
    if "memory/peak_gib" in known:
        console.print(f"peak memory: {known['memory/peak_gib']:.1f} GiB", style="dim")
    for name in ("checkpoint/last", "checkpoint/best", "url"):
        if known[name]:
            console.print(f"{name:16} {known[name]}", soft_wrap=True, markup=False, highlight=False)
