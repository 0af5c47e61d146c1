"""One open bag: its topics and its messages, read by the package ``rosbags``."""

from __future__ import annotations

import errno
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobile_vla.data.sources.bags.bag_files import METADATA, storage_files
from mobile_vla.errors import DataError, UnreadableNowError, UserError
from mobile_vla.extras import load
from mobile_vla.storage.disk import unreadable
from mobile_vla.text import shortened
from mobile_vla.untrusted.files import inside, open_regular
from mobile_vla.untrusted.yaml_file import read_yaml

_MAX_SEQUENCE = 2**28
"""Maximum length of a sequence in a message; an image of 2560x1600 in 24 bits has 2^23.5 bytes."""

_REMEDIES = {
    "not indexed": "Its recorder was killed: `rosbag reindex` mends it.",
    "File end magic": "It was not written to its end: `mcap recover` saves what is there.",
    "Profile is not ros2": "Convert it to a ROS 2 bag: of MCAP files those of the profile ros2 are read.",
    "Encryption": "Decrypt it first.",
}
"""What to do, by a part of the package's message."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic of a bag: its name, the type of its messages (``sensor_msgs/msg/Image``), and how many there are."""

    name: str
    type: str
    num_messages: int

    def __str__(self) -> str:
        return f"{self.name[:100]} ({self.type[:100]}, {self.num_messages})"


@dataclass(frozen=True, kw_only=True)
class Bag:
    """An open bag. Every error of ``rosbags`` becomes a ``DataError`` that names the bag."""

    path: Path
    topics: Mapping[str, Topic]
    reader: Any
    is_ros1: bool
    stores: dict[str, Any] = field(default_factory=dict)

    def messages(
        self, topics: Collection[str], *, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, bytes]]:
        """Yield topic, log time and content of each message of ``topics`` in recorded order, of a part by log time.

        ``stop_ns`` is the first time that is left out. Raises ``DataError`` where the bag counts more or fewer.
        """
        if not topics:  # an empty list would mean all to the reader
            return
        wanted = [connection for connection in self.reader.connections if connection.topic in topics]
        num_read = 0
        with report_damage(self.path):
            for connection, log_ns, content in self.reader.messages(wanted, start_ns, stop_ns):
                num_read += 1
                yield connection.topic, log_ns, content
        num_expected = sum(self.topics[topic].num_messages for topic in topics)
        if start_ns is None and stop_ns is None and num_read != num_expected:
            raise DataError(
                f"{self.path}: counts {num_expected} messages of {shortened(sorted(topics), limit=4)}, and {num_read} "
                "are there. Copy it again, or reindex it (`ros2 bag reindex`, `mcap recover`)."
            )

    def decode(self, topic: str, content: bytes) -> Any:
        """Return the message, with the fields of its definition as attributes."""
        type_name = self.topics[topic].type
        store = self.stores.get(type_name) or self._store(topic, type_name)
        with report_damage(self.path):
            if self.is_ros1:
                return store.deserialize_ros1(content, type_name)
            return store.deserialize_cdr(content, type_name)

    @contextmanager
    def taking_apart(self, topic: str) -> Generator[None, None, None]:
        """Convert the errors of reading the fields of a message inside the block to a ``DataError``.

        A bag defines its types itself, also those of ROS: a field may be missing or of another type.
        """
        try:
            yield
        except UserError:
            raise
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"{self.path}: a message of {topic} cannot be used ({' '.join(str(error).split())[:200]}): its "
                f"definition in the bag is not that of {self.topics[topic].type}, or it is damaged. Name another topic."
            ) from error

    def _store(self, topic: str, type_name: str) -> Any:
        """Return the type store for one type: by the definition in the bag, or that of ROS 2 where it has none."""
        from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

        with report_damage(self.path):
            definition = next(c.msgdef for c in self.reader.connections if c.topic == topic)
            if definition.format.name == "NONE":
                # Older sqlite3 bags. The messages that are read as more than plain numbers are the same in every ROS 2.
                store = get_typestore(Stores.LATEST)
                if type_name not in store.types:
                    raise DataError(
                        f"{self.path}: does not hold the definition of {type_name}, which {topic} has. Record it with "
                        "a newer ROS 2, convert it to MCAP where the type is known, or leave the topic out."
                    )
            else:
                if definition.format.name == "MSG":
                    types = get_types_from_msg(definition.data, type_name)
                else:
                    types = {}
                    for part in _idl_parts(definition.data):
                        types |= get_types_from_idl(part)
                store = get_typestore(Stores.EMPTY)
                store.register(_only_fields(types, self.path))
            store.max_sequence_length = _MAX_SEQUENCE
        self.stores[type_name] = store
        return store


def _idl_parts(text: str) -> list[str]:
    separator = "=" * 80 + "\nIDL: "
    return [part.split("\n", 1)[-1] for part in text.split(separator)[1:]] if text.startswith(separator) else [text]


def _only_fields(types: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return ``types`` without constants; raise ``DataError`` for a name that is no plain word.

    ``rosbags`` makes Python code of the definitions, and these are somebody else's: nothing but words may get into it.
    """
    for name, (_, fields) in types.items():
        words = [*name.split("/"), *(field_name for field_name, _ in fields)]
        if bad := [word for word in words if not (word.isidentifier() and word.isascii())]:
            raise DataError(f"{path}: the definition of {name[:80]!r} holds the name {bad[0][:80]!r}. Remove the bag.")
    return {name: ([], fields) for name, (_, fields) in types.items()}


@contextmanager
def open_bag(path: Path) -> Generator[Bag, None, None]:
    """Open a bag for reading. Raises ``DataError`` where that is not possible, with the cause and what to do."""
    _check_files(path)
    load("rosbags", "rosbags.rosbag1", "rosbags.rosbag2", "rosbags.typesys", asked_by=f"{path}: reading bags")
    is_ros1 = path.suffix == ".bag" and not path.is_dir()
    with report_damage(path):
        if is_ros1:
            from rosbags.rosbag1 import Reader
        else:
            from rosbags.rosbag2 import Reader
        reader = Reader(path)
        reader.open()
    try:
        yield Bag(path=path, topics=_topics(reader, path), reader=reader, is_ros1=is_ros1)
    finally:
        reader.close()


def _topics(reader: Any, path: Path) -> dict[str, Topic]:
    found: dict[str, Topic] = {}
    with report_damage(path):
        for connection in reader.connections:
            earlier = found.get(connection.topic)
            is_same = earlier is None or earlier.type == connection.msgtype
            found[connection.topic] = Topic(
                name=connection.topic,
                type=connection.msgtype if is_same else "several types",
                num_messages=connection.msgcount + (0 if earlier is None else earlier.num_messages),
            )
    return dict(sorted(found.items()))


def _check_files(path: Path) -> None:
    """Raise ``DataError`` where a file of the bag is missing, no file, unclosed, or compressed as a whole."""
    files = storage_files(path)
    if path.is_dir():
        _check_metadata(path)
    for file in files:
        try:
            open_regular(file).close()
        except OSError as error:
            raise UnreadableNowError(f"{path}: {file.name}: {_after_path(unreadable(file, error), file)}") from error
        except UserError as error:
            raise DataError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
        if file.suffix == ".db3":
            _check_sqlite(path, file)


def _after_path(error: DataError, file: Path) -> str:
    return str(error).removeprefix(f"{file}: ")


def _check_metadata(folder: Path) -> None:
    try:
        information = read_yaml(folder / METADATA)["rosbag2_bagfile_information"]
        names = [Path(str(name)).name for name in information["relative_file_paths"]]
        mode = str(information.get("compression_mode") or "").lower()
    except OSError as error:
        raise UnreadableNowError(f"{folder}: {METADATA}: {_after_path(unreadable(folder, error), folder)}") from error
    except (UserError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{folder}: {METADATA} is not that of a ROS 2 bag ({error}). `ros2 bag reindex` writes it again."
        ) from error
    if mode == "file":
        # The reader would unpack it to a temporary folder, again for each process, however large it becomes.
        raise DataError(
            f"{folder}: is compressed as a whole (compression_mode: file). Unpack it: `zstd -d` and `ros2 bag "
            "reindex`, or `ros2 bag convert`."
        )
    for name in names:
        try:
            file = inside(folder, name)
        except UserError as error:
            raise DataError(f"{folder}: {error}") from error
        if not file.exists():
            raise DataError(
                f"{folder}: {name[:200]} is missing, but {METADATA} names it. Copy the whole bag, or reindex it "
                "(`ros2 bag reindex`)."
            )


def _check_sqlite(path: Path, file: Path) -> None:
    log = file.with_name(f"{file.name}-wal")
    if log.exists() and log.stat().st_size > 0:
        raise DataError(
            f"{path}: {file.name} was not closed: messages are still in {log.name}. Open it once with sqlite3 "
            "(`sqlite3 FILE 'PRAGMA wal_checkpoint(TRUNCATE)'`)."
        )
    if any(character in str(file) for character in "?#%"):  # rosbags puts the path into a URI as it is
        raise DataError(f"{path}: sqlite3 bags whose path holds '?', '#' or '%' cannot be opened. Rename it.")


@contextmanager
def report_damage(path: Path) -> Generator[None, None, None]:
    """Convert every error that ``rosbags`` raises inside the block to a ``DataError`` that names the bag.

    On damaged bytes the package raises its own errors, and those of struct, zlib, lz4, zstandard, sqlite3 and Python
    itself: found by changing bytes of small bags.
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:  # one false length is enough
        raise DataError(
            f"{path}: a part of it claims more memory than a reading process may have: it is damaged or hostile. "
            "Copy it again or remove it."
        ) from error
    except Exception as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        # An offset in the bag that leads before its begin is EINVAL.
        if isinstance(cause, OSError) and cause.errno not in (None, errno.EINVAL, errno.ENOENT):
            raise UnreadableNowError(f"{path}: {_after_path(unreadable(path, cause), path)}") from error
        text = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = next((remedy for part, remedy in _REMEDIES.items() if part in text), "Copy it again or remove it.")
        raise DataError(f"{path}: is truncated or damaged ({text}). {remedy}") from error
