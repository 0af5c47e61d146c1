"""The model card of a checkpoint: Markdown with the header that the hub reads, made from the run's records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from mobile_vla.metric_text import no_better_than
from mobile_vla.metrics import ERROR, PREDICTORS, error_of, reference_name
from mobile_vla.policy.description import MAX_INSTRUCTIONS, PolicyDescription
from mobile_vla.policy.export.records import Records
from mobile_vla.spec import Signal

_SHOWN_INSTRUCTIONS = 5

_REFERENCES = (
    "The predictors beside the policy see no image and are not trained: the mean of the train actions, the action "
    "before the current frame (which the policy does not get), and the mean train action at this time step, of all "
    "episodes or of those of the same scenario."
)


@dataclass(frozen=True, kw_only=True)
class PretrainedBase:
    """The pretrained model that a policy builds on.

    ``difference`` is the largest change of an action by merging the adapter; None if nothing was merged.
    """

    name: str
    is_hub_name: bool
    hash: str
    family: str
    difference: float | None


def model_card(
    description: PolicyDescription, base: PretrainedBase | None, records: Records, *, trust: Sequence[str]
) -> ModelCard:
    """Return the model card of a policy; facts that were not recorded are left out, and so is the licence.

    The licence is the owner's decision, and the pretrained model may restrict it.
    """
    sampler = records.manifest.get("sampler")
    data = ModelCardData(
        library_name="mobile_vla",
        base_model=base.name if base and base.is_hub_name else None,
        pipeline_tag="robotics",
        tags=["robotics", "vision-language-action", *([sampler] if sampler else [])],
    )
    sections = {
        "Model": _model(description, base, records),
        "Trained on": _data(description, records),
        "How it was trained": _training(records),
        "Results": _results(description, records),
        "Load": _loading(description, base, trust),
        "What it does not do": _limits(description, base, records),
    }
    body = [f"# {records.manifest.get('run_id', 'A policy of mobile_vla')}", "", _what_it_is(description), ""]
    for title, lines in sections.items():
        body += [f"## {title}", "", *lines, ""] if lines else []
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(body))


def _what_it_is(description: PolicyDescription) -> str:
    num_cameras = len(description.spec.cameras)
    seen = "camera images" if num_cameras == 1 else f"images of {num_cameras} cameras"
    state = ", the robot's state" if description.spec.state else ""
    return (
        f"A robot policy: it sees the last {description.window_size} {seen}{state} and an instruction, and answers "
        f"with the next {description.fwd_pred_next_n} commands."
    )


def _model(description: PolicyDescription, base: PretrainedBase | None, records: Records) -> list[str]:
    backbone, head = description.model["backbone"], description.model["head"]
    rows, columns = description.image.size
    images = f"{rows} x {columns} pixels ({description.image.resize} resize), {description.image.channel_order.upper()}"
    rate = description.spec.rate_hz
    trainable, total = (records.manifest.get(f"parameters/{part}") for part in ("trainable", "total"))
    facts = {
        "Backbone": _options(backbone),
        "Pretrained weights": base and _pretrained(base),
        "Tuning": _options(backbone["tuning"]) if "tuning" in backbone else None,
        "Cameras": ", ".join(description.spec.camera_names),
        "Images": f"{images}, then as the pretrained model's own image processor does" if base else images,
        "Head": _options(head),
        "History": _options(head["history"]) if "history" in head else None,
        "Rate": "not recorded" if rate is None else f"{rate:g} frames a second, and as many commands",
        "Window": f"window_size {description.window_size}, fwd_pred_next_n {description.fwd_pred_next_n}, "
        f"padding {description.padding}",
        "State": _listed(description.spec.state),
        "Actions": _listed(description.spec.actions),
        "Action normalisation": description.model.get("normalization"),
        "Weights": f"{total:,}, {trainable:,} of them trained" if total else None,
    }
    return _bullets(facts)


def _listed(signals: Sequence[Signal]) -> str:
    return ", ".join(f"{signal.name} ({_meaning(signal)})" for signal in signals)


def _meaning(signal: Signal) -> str:
    """Return unit and kind, as far as they are known; a binary signal has no unit."""
    unit = signal.unit or (None if signal.kind == "binary" else "unit unknown")
    return ", ".join(filter(None, (unit, None if signal.kind == "unknown" else signal.kind)))


def _pretrained(base: PretrainedBase) -> str:
    where = f"`{base.name}`" if base.is_hub_name else f"a local folder, `{Path(base.name).name}`"
    text = f"{where}, a model of type {base.family}"
    if base.difference is None:
        return f"{text}, hash {base.hash}; any other is refused"
    return (
        f"{text}. The adapter is merged into it and the result is in `base/`, hash {base.hash}; on random images the "
        f"merge changed no action by more than {base.difference:.1e}"
    )


def _data(description: PolicyDescription, records: Records) -> list[str]:
    parts = {part: len(records.split[part]) for part in ("train", "val", "unseen") if records.split.get(part)}
    dataset = records.config.get("dataset", {})
    unseen, path = dataset.get("unseen"), dataset.get("path")
    facts = {
        "Data": records.manifest.get("choices", {}).get("dataset"),
        # Only its name: a card is published, and the folders of the machine that trained concern nobody.
        "Recordings": f"`{Path(path).name}`" if path else None,
        "Format": records.summary.get("data_format"),
        "Data hash": records.manifest.get("data_hash"),
        "Split hash": records.manifest.get("split_hash"),
        "Episodes": ", ".join(f"{part} {count}" for part, count in parts.items()),
        "Episodes that could not be used": records.summary.get("skipped_episodes") or None,
        "Held out of training": ", ".join(unseen or []),
    }
    texts = description.instructions
    count = f"{len(texts)} or more" if len(texts) == MAX_INSTRUCTIONS else len(texts)
    shown = [f'  - "{text}"' for text in texts[:_SHOWN_INSTRUCTIONS]]
    return [*_bullets(facts), *([f"- Instructions: {count}, such as", *shown] if texts else [])]


def _training(records: Records) -> list[str]:
    choices, config = records.manifest.get("choices", {}), records.config
    trainer, transforms = config.get("trainer", {}), config.get("augmentation", {}).get("transforms", {})
    steps = None if records.step is None else str(records.step)
    if records.manifest.get("num_steps") not in (None, records.step):
        steps = f"{steps}, of {records.manifest['num_steps']} planned"
    facts = {
        "Sampler": _options(config["sampler"], name=choices.get("sampler")) if "sampler" in config else None,
        "Augmentation": ", ".join(_options(node, name=name) for name, node in transforms.items()) or "none",
        "Steps": steps,
        "Windows a step": records.summary.get("batch_size"),
        "Optimizer": _optimizer(trainer) if trainer else None,
        "Learning-rate schedule": _options(trainer["schedule"]) if "schedule" in trainer else None,
        "Seed": records.manifest.get("seed"),
        "Commit of mobile_vla": records.manifest.get("commit"),
    }
    return _bullets(facts) if config else []


def _optimizer(trainer: Mapping[str, Any]) -> str:
    own_rate = trainer["backbone_learning_rate"]
    backbone = f"{own_rate:g}" if own_rate else "the same, or a tenth of it where pretrained"
    return (
        f"{trainer['optimizer']}, learning rate {trainer['learning_rate']:g} (of the backbone: {backbone}), "
        f"weight decay {trainer['weight_decay']:g}, "
        f"precision {trainer['precision']}"
    )


def _results(description: PolicyDescription, records: Records) -> list[str]:
    lines = _rmse_table(description, records)
    driven = [key.split("/")[1] for key in records.at_end if key.endswith("/success_rate") and key.count("/") == 2]
    if driven:
        lines += ["| closed loop, simulated | drives | success | 95 % interval |", "|---|---|---|---|"]
        lines += [*(_suite(suite, records.at_end) for suite in driven), ""]
    if verdict := records.at_end.get("shortcut/verdict"):
        lines.append(f"What the policy acts on, by probes on val: it {verdict}.")
    elif not records.at_end and any(key.startswith(("closed_loop/", "shortcut/")) for key in records.summary):
        lines.append("The results at the end of the run belong to other weights and are left out.")
    return lines


def _rmse_table(description: PolicyDescription, records: Records) -> list[str]:
    columns = {
        "val": ("val/rmse", records.offline),
        "unseen": ("unseen/rmse", records.offline),
        **{f"val, {title}": (reference_name(name, ERROR), records.summary) for name, title in PREDICTORS.items()},
    }
    columns = {title: (key, values) for title, (key, values) in columns.items() if values.get(key) is not None}
    if "val" not in columns:
        return []
    error = error_of(description.spec)
    whole = "all actions" if error == ERROR else "all actions, each divided by its standard deviation in train"
    rows = [[whole, *(_number(values, _as(key, error)) for key, values in columns.values())]]
    rows += [
        [_title(signal), *(_number(values, f"{key}/{signal.name}") for key, values in columns.values())]
        for signal in description.spec.actions
    ]
    table = [["RMSE", *columns], ["---"] * (1 + len(columns)), *rows]
    said = f"Errors of the commands predicted at the current frame, after {records.step} steps:"
    measured = {**records.summary, **records.offline}
    sentence = no_better_than(measured, error=error)
    notes = [_REFERENCES, ""] if any(key.startswith("baseline/") for key, _ in columns.values()) else []
    rows_of_text = [f"| {' | '.join(row)} |" for row in table]
    return [said, "", *rows_of_text, "", *notes, *([sentence, ""] if sentence else [])]


def _as(name: str, error: str) -> str:
    """Return the metric ``name``, an RMSE, or the same in units of each action's spread where ``error`` is that."""
    return name if error == ERROR else name.replace("/rmse", "/nrmse")


def _number(values: Mapping[str, Any], name: str) -> str:
    return f"{values[name]:.4f}" if values.get(name) is not None else ""


def _title(signal: Signal) -> str:
    return f"{signal.name} [{signal.unit}]" if signal.unit else signal.name


def _suite(suite: str, values: Mapping[str, Any]) -> str:
    rate, low, high = (values[f"closed_loop/{suite}/success_{figure}"] for figure in ("rate", "low", "high"))
    return f"| {suite} | {values[f'closed_loop/{suite}/episodes']} | {rate:.1%} | {low:.1%} to {high:.1%} |"


def _loading(description: PolicyDescription, base: PretrainedBase | None, trust: Sequence[str]) -> list[str]:
    needs_base = base is not None and base.difference is None and not base.is_hub_name
    arguments = ['"FOLDER"', *(['base="BASE"'] if needs_base else []), *([f"trust={list(trust)}"] if trust else [])]
    flags = [*(["--base BASE"] if needs_base else []), *(f"--trust {name}" for name in trust)]
    instruction = next(iter(description.instructions), "an instruction")
    spec = description.spec
    shape = f"[{description.fwd_pred_next_n}, {len(spec.actions)}]"
    images = "image"
    if len(spec.cameras) > 1:
        images = "{" + ", ".join(f"{name!r}: image_{number}" for number, name in enumerate(spec.camera_names, 1)) + "}"
    state = f", state=[{', '.join(spec.state_names)}]" if spec.state else ""
    where = "`FOLDER` is this folder" + ("; `BASE` is where the pretrained weights lie." if needs_base else ".")
    return [
        *("```python", "from mobile_vla import Policy", ""),
        f"policy = Policy.load({', '.join(arguments)})",
        "policy.reset()  # an episode begins",
        f"chunk = policy.act({images}, {instruction!r}{state})  # uint8 [rows, columns, 3] -> float32 {shape}",
        *("```", "", f"Over the network: `{' '.join(['python -m mobile_vla serve FOLDER', *flags])}`. {where}"),
    ]


def _limits(description: PolicyDescription, base: PretrainedBase | None, records: Records) -> list[str]:
    driving = "No results were recorded."
    if any(key.startswith("closed_loop/") for key in records.at_end):
        driving = "Its drives were measured in the simulator of its training data, not on a robot."
    elif records.offline:
        driving = "Whether it drives was not measured, only its error on recorded episodes."
    names = ", ".join(description.spec.action_names)
    licence = "No licence is stated here" + ("; the pretrained model may have its own" if base else "")
    return [
        "- Its commands are not limited to what a robot can do, and it has no emergency stop.",
        f"- {driving}",
        f"- Its commands ({names}) are those of the robot that recorded the episodes; another may need other ones.",
        f"- {licence}. Add `license:` to the head of this file.",
    ]


def _options(node: Mapping[str, Any], *, name: str | None = None) -> str:
    """Return ``Name (key=value, ...)`` of a config node, without nested nodes and the place of the weights.

    These have lines of their own in the card.
    """
    options = {k: v for k, v in node.items() if not (k.startswith("_") or k == "weights" or isinstance(v, Mapping))}
    said = ", ".join(f"{key}={value}" for key, value in options.items())
    title = name or node["_target_"].rsplit(".", 1)[-1]
    return f"{title} ({said})" if said else title


def _bullets(facts: Mapping[str, object]) -> list[str]:
    return [f"- {name}: {value}" for name, value in facts.items() if value not in (None, "")]
