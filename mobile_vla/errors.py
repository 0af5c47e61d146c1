"""The errors whose message is written for the user."""


class UserError(ValueError):
    """An input cannot be used; the message states what was given, what was expected and what to do."""


class ConfigError(UserError):
    """The composed config cannot be run."""


class DataError(UserError):
    """An episode file, folder or tub cannot be used; ``num_episodes`` is how many episodes that is, as far as known."""

    num_episodes: int = 1


class MissingEpisodesError(DataError):
    """Episodes that a data set declares are not there."""

    def __init__(self, message: str, *, num_episodes: int = 1) -> None:  # a default, or it could not be unpickled
        super().__init__(message)
        self.num_episodes = num_episodes


class UnreadableNowError(DataError):
    """An episode file or folder cannot be read now, for a cause outside the file (a lock, a permission, the disk).

    A separate class because the file itself may be good: caches must not record it as bad, and the user must not be
    advised to remove it.
    """
