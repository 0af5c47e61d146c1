"""Name the errors that are meant for the person at the keyboard."""


class UserError(ValueError):
    """Something given to us cannot be used; the message says what was given, what was expected and what to do."""


class ConfigError(UserError):
    """The composed config cannot be run."""


class DataError(UserError):
    """An episode file, folder or tub cannot be used."""


class UnreadableNowError(DataError):
    """An episode file or folder cannot be read now for a cause outside of it (a lock, a permission, the disk)."""
