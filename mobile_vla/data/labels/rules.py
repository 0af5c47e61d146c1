"""The scenario and the task of each episode, by rules in a configured order: the first rule that gives a text counts.

A rule is one of

- ``name``: the episode's name, read by ``dataset.grammars``: the group ``scenario``. Of a task it is the group ``task``
  or, where the name has none, the field ``task`` that the format stores;
- ``field:KEY``: a text about the episode: an attribute or a column that the format stores, a group of the grammars, or
  ``folder``, the subfolder in which its file is;
- ``instruction``: the episode's instruction, unless it is the constant one;
- ``csv:FILE``: a table with the column ``episode`` and the column ``scenario``, or ``task`` for tasks;
- ``actions:K``, ``first_frames:K``: one of K groups of episodes with similar actions, or similar first images (k-means
  with a fixed seed). These are guesses, and are said to be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobile_vla.data.labels.grammars import UNKNOWN, task_of
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.schema import Episode
from mobile_vla.text import first_few
from mobile_vla.untrusted.files import csv_rows

Label = Literal["scenario", "task"]

FirstImages = Mapping[str, Sequence[NDArray[np.uint8]]]
"""The first image [Y, X, 3] of each camera, by episode name."""

_CLUSTERS = ("actions", "first_frames")
_MAX_CLUSTERS = 50
_MAX_LABEL = 60
_NUM_POINTS = 8
"""Points in time at which the actions of two episodes are compared."""

_SMALL = 16
"""Rows and columns of the grey first images that are compared."""

_NOT_IN_LABELS = re.compile(r"[^\w.+=-]+")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: its kind, and its argument (a key, a file, or a number as text), empty for none."""

    kind: str
    argument: str = ""

    @property
    def needs_frames(self) -> bool:
        """Whether the rule looks at images."""
        return self.kind == "first_frames"


def parse_rules(texts: Sequence[str], *, option: str) -> tuple[Rule, ...]:
    """Return the rules of ``option``; raises ``ConfigError`` for one that is unknown or can have no effect."""
    rules = []
    for text in texts:
        kind, _, argument = text.partition(":")
        takes_argument = kind in ("field", "csv", *_CLUSTERS)
        if kind not in ("name", "instruction", "field", "csv", *_CLUSTERS) or takes_argument != bool(argument):
            raise ConfigError(
                f"{option}: {text!r}; expected name, instruction, field:KEY, csv:FILE, actions:NUMBER or "
                "first_frames:NUMBER"
            )
        if kind in _CLUSTERS and not (argument.isdecimal() and 2 <= int(argument) <= _MAX_CLUSTERS):
            raise ConfigError(f"{option}: {text!r}; expected a number of groups from 2 to {_MAX_CLUSTERS}")
        if rules and rules[-1].kind in _CLUSTERS:
            raise ConfigError(f"{option}: {text!r} has no effect, as every episode gets a group of the rule before it")
        rules.append(Rule(kind=kind, argument=argument))
    return tuple(rules)


def label_episodes(
    episodes: Sequence[Episode], rules: Mapping[Label, Sequence[Rule]], *, first_images: FirstImages | None
) -> tuple[list[Episode], list[str]]:
    """Return ``episodes`` with the scenario and the task that ``rules`` give, and warnings; a pure function.

    An episode that no rule labels keeps ``unknown``. ``first_images`` may be None where no rule looks at images.
    """
    scenarios, said_of_scenarios = _labels(episodes, rules["scenario"], label="scenario", first_images=first_images)
    tasks, said_of_tasks = _labels(episodes, rules["task"], label="task", first_images=first_images)
    labelled = [
        _labelled(e, scenario=scenarios.get(e.name, UNKNOWN), task=tasks.get(e.name, UNKNOWN)) for e in episodes
    ]
    return labelled, [*said_of_scenarios, *said_of_tasks]


def _labels(
    episodes: Sequence[Episode], rules: Sequence[Rule], *, label: Label, first_images: FirstImages | None
) -> tuple[dict[str, str], list[str]]:
    """Return the label by the name of each episode that a rule labels, and warnings."""
    labels: dict[str, str] = {}
    cleaned: dict[str, str] = {}  # most episodes share few texts
    warnings: list[str] = []
    for rule in rules:
        rest = [episode for episode in episodes if episode.name not in labels]
        if not rest:
            break
        if rule.kind in _CLUSTERS:
            labels |= _clusters(rest, rule, label=label, first_images=first_images)
            warnings.append(
                f"the {label}s of {len(rest)} episodes are guesses: {rule.argument} groups of similar "
                f"{rule.kind.replace('_', ' ')}. Look at them before you believe what is said of a group"
            )
            continue
        read, said = _reader(rule, label=label, episodes=episodes)
        warnings += said
        for episode in rest:
            if text := read(episode):
                if text not in cleaned:
                    cleaned[text] = clean_label(text)
                labels[episode.name] = cleaned[text]
    return labels, warnings


def clean_label(text: str) -> str:
    """Return ``text`` as a part of a metric's name: without slashes and white space, at most 60 characters.

    The punctuation at the end of a sentence is left out: "Go." and "Go" are one scenario.
    """
    return _NOT_IN_LABELS.sub("_", text.strip()).lstrip("_")[:_MAX_LABEL].rstrip("._") or UNKNOWN


def _labelled(episode: Episode, *, scenario: str, task: str) -> Episode:
    fields = episode.fields if task_of(episode.fields) == task else {**episode.fields, "task": task}
    if episode.scenario == scenario and fields is episode.fields:
        return episode
    return replace(episode, scenario=scenario, fields=fields)


def _reader(
    rule: Rule, *, label: Label, episodes: Sequence[Episode]
) -> tuple[Callable[[Episode], str | None], list[str]]:
    """Return the function from an episode to its text by ``rule``, and warnings about the rule."""
    if rule.kind == "name":
        if label == "scenario":
            return lambda episode: None if episode.scenario == UNKNOWN else episode.scenario, []
        return lambda episode: episode.fields.get("task"), []
    if rule.kind == "instruction":
        return lambda episode: None if episode.instruction_source == "constant" else episode.instruction, []
    if rule.kind == "field":
        known = sorted({key for episode in episodes for key in episode.fields})
        missing = f"dataset.{label}=field:{rule.argument}: no episode has it; there are: {', '.join(known) or 'none'}"
        # ``scenario`` and ``folder`` are defaults: few recordings have the one, and episodes may all lie in one folder.
        said = [missing] if rule.argument not in (*known, "scenario", "folder") else []
        return lambda episode: episode.fields.get(rule.argument), said
    table = read_table(Path(rule.argument), label)
    surplus = sorted(table.keys() - {episode.name for episode in episodes})
    said = [f"{rule.argument} names {len(surplus)} episode(s) that are not there: {first_few(surplus)}"]
    return lambda episode: table.get(episode.name), said if surplus else []


def read_table(path: Path, label: Label) -> Mapping[str, str]:
    """Return the column ``label`` of a CSV file by its column ``episode``; raises ``ConfigError`` for another file."""
    place = f"dataset.{label}: {path}"
    try:
        rows = [row for _, row in csv_rows(path.expanduser())]
    except OSError as error:
        raise ConfigError(f"{place}: cannot be read ({error.strerror})") from error
    except UserError as error:
        raise ConfigError(f"dataset.{label}: {error}") from error
    if not rows or {"episode", label} - set(rows[0]):
        found = ", ".join(map(str, rows[0])) if rows else "no row"
        raise ConfigError(f"{place}: has {found}; expected the columns episode and {label}, and a row an episode")
    return {row["episode"]: row[label] or "" for row in rows}


def _clusters(
    episodes: Sequence[Episode], rule: Rule, *, label: Label, first_images: FirstImages | None
) -> dict[str, str]:
    """Return ``actions_1`` .. by episode name; the largest group comes first."""
    from scipy.cluster.vq import kmeans2  # 0.1 s, for the few that ask for groups

    number = int(rule.argument)
    if number > len(episodes):
        raise ConfigError(f"dataset.{label}={rule.kind}:{number}: there are only {len(episodes)} episodes to group")
    if rule.kind == "actions":
        features_ED = _action_features(episodes)
    else:
        assert first_images is not None
        features_ED = _image_features([first_images[episode.name] for episode in episodes])
    spread_D = features_ED.std(0)
    features_ED = (features_ED - features_ED.mean(0)) / np.where(spread_D > 0, spread_D, 1)
    # k-means++ starts: with random starts, groups can stay empty. The seed is fixed, as the split of all runs of a
    # sweep depends on the scenarios.
    _, group_E = kmeans2(features_ED, number, minit="++", rng=np.random.default_rng(0), missing="warn")
    sizes = np.bincount(group_E, minlength=number)
    place = {group: place for place, group in enumerate(np.argsort(-sizes, kind="stable").tolist(), start=1)}
    return {e.name: f"{rule.kind}_{place[group]}" for e, group in zip(episodes, group_E.tolist(), strict=True)}


def _action_features(episodes: Sequence[Episode]) -> NDArray[np.float64]:
    """Return the actions at a few equally spaced points of each episode [E, points x A], in units of their spread."""
    spread_A = np.concatenate([episode.actions for episode in episodes]).std(0)
    rows = [np.linspace(0, episode.num_frames - 1, _NUM_POINTS).round().astype(int) for episode in episodes]
    features = [episode.actions[row] for episode, row in zip(episodes, rows, strict=True)]
    return (np.stack(features) / np.where(spread_A > 0, spread_A, 1)).reshape(len(episodes), -1).astype(np.float64)


def _image_features(images_E: Sequence[Sequence[NDArray[np.uint8]]]) -> NDArray[np.float64]:
    """Return the images of each episode, small and grey [E, cameras x pixels]."""
    small = [[_small(image_YXC) for image_YXC in images] for images in images_E]
    return np.stack(small).reshape(len(images_E), -1).astype(np.float64)


def _small(image_YXC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = Image.fromarray(np.ascontiguousarray(image_YXC)).convert("L")
    return np.asarray(picture.resize((_SMALL, _SMALL), Image.Resampling.BOX))
