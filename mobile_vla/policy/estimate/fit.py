"""Compare an estimate with the free memory: print it, or raise an error that lists which options to lower."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mobile_vla.errors import ConfigError
from mobile_vla.policy.backbones.tuning import Frozen, Full, Lora
from mobile_vla.policy.estimate.outline import read_outline
from mobile_vla.policy.estimate.step import BackboneOptions, Estimate, Workload, estimate_outline

_GIB = 2**30
_LEAST_EFFECT = 0.01
"""An option that frees less than this share of the memory is not listed."""


def check_fits(estimate: Estimate, available_bytes: int) -> None:
    """Raise ``ConfigError`` if a training step needs more than ``available_bytes``.

    The message gives the memory by kind, and the total that each option which can still be lowered would leave, the
    most effective first.
    """
    if estimate.total_bytes <= available_bytes:
        return
    levers = sorted(
        ((found.total_bytes, option) for option, found in _levers(estimate)), key=lambda lever: (lever[0], lever[1])
    )
    useful = [(total, option) for total, option in levers if total < (1 - _LEAST_EFFECT) * estimate.total_bytes]
    lines = [
        f"model.backbone: a training step needs about {_gib(estimate.total_bytes)} GiB and "
        f"{_gib(available_bytes)} GiB are free: {_kinds(estimate)}."
    ]
    if useful:
        lines.append("Lower it; about this many GiB remain with each alone:")
        lines += [
            f"  {_gib(total):>7}  {option}{'  (fits)' if total <= available_bytes else ''}" for total, option in useful
        ]
    if not any(total <= available_bytes for total, _ in useful):
        lines.append("None is enough alone: take several, a smaller model or a larger device.")
    raise ConfigError("\n".join(lines))


def print_estimate(estimate: Estimate, console: Console, *, available_bytes: int, flops_per_s: float) -> None:
    """Print the estimate as one compact block; ``flops_per_s`` is the device's measured speed in matrix products."""
    workload = estimate.workload
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    grid.add_row("parameters", f"{estimate.num_parameters:,}, of which {estimate.num_trained:,} are trained")
    grid.add_row(
        "memory", f"about {_gib(estimate.total_bytes)} of {_gib(available_bytes)} GiB free: {_kinds(estimate)}"
    )
    prompts = "a window" if estimate.options.structure == "video" else "a frame"
    grid.add_row("prompt", f"{estimate.tokens_per_prompt} tokens {prompts}, {estimate.patches_per_image} an image")
    if estimate.is_computed_once:
        seconds = estimate.flops_per_frame / flops_per_s
        grid.add_row("time", f"each frame's features once: at least {_seconds(seconds)} a frame")
    else:
        seconds = estimate.flops_per_step / flops_per_s
        grid.add_row(
            "time",
            f"at least {_seconds(seconds)} a step of {workload.batch_size} windows, {workload.windows_at_once} at once "
            f"({_tera(estimate.flops_per_step)} TFLOP at {_tera(flops_per_s)} TFLOP/s)",
        )
    console.print(Group(Text("What the backbone will need", style="bold underline"), grid))


def _levers(estimate: Estimate) -> Iterator[tuple[str, Estimate]]:
    """Yield each option that could be lowered, with the estimate for the lowered value."""
    options, workload, outline = estimate.options, estimate.workload, estimate.outline
    for option, lower in _lower_workloads(workload, learns=options.tuning.learns):
        yield option, estimate_outline(outline, options, lower)
    for option, other in _lower_options(options):
        # The outline depends on weights and tuning alone, so the model is built again only for another tuning.
        is_same = other.tuning is options.tuning
        found = outline if is_same else read_outline(other.weights, other.tuning)
        yield option, estimate_outline(found, other, workload)


def _lower_workloads(workload: Workload, *, learns: bool) -> Iterator[tuple[str, Workload]]:
    if learns and workload.windows_at_once > 1:
        yield "trainer.micro_batch_size=1", replace(workload, micro_batch_size=1)
    if workload.window_size > 1:
        shorter = workload.window_size // 2
        yield f"dataset.window_size={shorter}", replace(workload, window_size=shorter)
    if workload.num_cameras > 1:
        yield "one camera in dataset.cameras", replace(workload, num_cameras=1)
    rows, columns = workload.image_size
    smaller = (rows // 2, columns // 2)
    yield f"dataset.image_size=[{smaller[0]},{smaller[1]}]", replace(workload, image_size=smaller)
    if workload.optimizer == "adamw":
        yield "trainer.optimizer=adamw_8bit", replace(workload, optimizer="adamw_8bit")


def _lower_options(options: BackboneOptions) -> Iterator[tuple[str, BackboneOptions]]:
    tuning = options.tuning
    # Checkpointing has no effect on a frozen backbone, which has no backward pass. The dtype can be lowered only if no
    # pretrained weight is trained: those must stay in float32.
    if tuning.learns and not options.gradient_checkpointing:
        yield "model.backbone.gradient_checkpointing=true", replace(options, gradient_checkpointing=True)
    if options.dtype == "fp32" and isinstance(tuning, Lora | Frozen):
        yield "model.backbone.dtype=bf16", replace(options, dtype="bf16")
    if options.attention == "eager":
        yield "model.backbone.attention=sdpa", replace(options, attention="sdpa")
    if options.frames_at_once > 1:
        fewer = max(1, options.frames_at_once // 4)
        yield f"model.backbone.frames_at_once={fewer}", replace(options, frames_at_once=fewer)
    if isinstance(tuning, Lora | Full) and tuning.vision:
        yield "model.backbone.tuning.vision=false", replace(options, tuning=replace(tuning, vision=False))
    if tuning.learns:
        yield "model/backbone/tuning=frozen", replace(options, tuning=Frozen(cached_variants=0))


def _kinds(estimate: Estimate) -> str:
    return ", ".join(f"{kind} {_gib(size)}" for kind, size in estimate.bytes_by_kind.items() if size)


def _gib(size: int) -> str:
    return f"{size / _GIB:.2f}" if size < 10 * _GIB else f"{size / _GIB:.1f}"


def _seconds(seconds: float) -> str:
    value, unit = (seconds, "s") if seconds >= 1 else (1000 * seconds, "ms")
    return f"{value:,.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"


def _tera(value: float) -> str:
    return f"{value / 1e12:,.0f}" if value >= 1e14 else f"{value / 1e12:.3g}"
