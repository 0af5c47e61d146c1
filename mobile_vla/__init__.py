"""Compare ways of sampling training windows for vision-language-action policies."""

__version__ = "0.1.0"
