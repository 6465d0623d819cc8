"""The base class of errors that a user can correct."""

from __future__ import annotations


class UserError(Exception):
    """Its message is one sentence for the user: the value, the place and the remedy."""
