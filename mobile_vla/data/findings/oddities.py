"""What is odd about a data set: what was skipped, copies, image sizes, episodes that are not used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mobile_vla.data.findings.problems import kinds_of
from mobile_vla.data.labels.grammars import UNKNOWN
from mobile_vla.errors import DataError
from mobile_vla.schema import Episode, WindowTable


def oddities_of(
    episodes: Sequence[Episode],
    problems: Sequence[DataError],
    *,
    digests: Mapping[str, str],
    windows: Mapping[str, WindowTable],
) -> list[str]:
    """Return one warning for each oddity of the usable ``episodes`` and of the ``problems`` that were skipped.

    ``digests`` are the content digests by episode name, ``windows`` the window tables by part of the split.
    """
    found = []
    bad, missing, passing = kinds_of(problems)
    if missing:
        found.append(
            f"{sum(p.num_episodes for p in missing)} declared episode(s) are missing: {'; '.join(map(str, missing))}"
        )
    if bad:
        places = Counter(str(problem).split(":", 1)[0] for problem in bad)
        listed = "; ".join(path if number == 1 else f"{path} ({number} times)" for path, number in places.items())
        found.append(f"{len(bad)} bad episode file(s) skipped: {listed}")
    # Also skipped: `skip` means to go on. Runs that read different files then have a different data_hash, and the
    # comparison does not rank them together.
    if passing:
        listed = "; ".join(str(problem) for problem in passing)
        found.append(f"{len(passing)} episode file(s) left out that may be good, for causes outside of them: {listed}")
    copies = Counter(digests[e.name] for e in episodes)
    num_copies = sum(count - 1 for count in copies.values())
    if num_copies:
        found.append(f"{num_copies} episode file(s) are copies of another: train and val may hold the same episode")
    for sizes in map(Counter, zip(*(e.image_sizes for e in episodes), strict=True)):
        if len(sizes) > 1:
            listed = ", ".join(f"{count} of {rows}x{columns}" for (rows, columns), count in sizes.most_common())
            found.append(f"mixed image sizes, all are resized: {listed}")
    num_unknown = sum(e.scenario == UNKNOWN for e in episodes)
    if num_unknown:
        found.append(
            f"no rule of dataset.scenario gives {num_unknown} of {len(episodes)} episodes a scenario: they count as "
            f"'{UNKNOWN}'"
        )
    for part, table in windows.items():
        without = set(table.episode_names) - {table.episode_names[e] for e in set(table.episode.tolist())}
        if without:
            found.append(f"{len(without)} {part} episode(s) are shorter than a window and are never used")
    return found
