"""The errors whose message is written for the user."""


class UserError(ValueError):
    """An input cannot be used; the message states what was given, what was expected and what to do."""


class ConfigError(UserError):
    """The composed config cannot be run."""


class DataError(UserError):
    """An episode file, folder or tub cannot be used."""


class UnreadableNowError(DataError):
    """An episode file or folder cannot be read now, for a cause outside the file (a lock, a permission, the disk).

    A separate class because the file itself may be good: caches must not record it as bad, and the user must not be
    advised to remove it.
    """
