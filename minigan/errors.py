"""What a user can mend: one class of error."""

from __future__ import annotations


class UserError(Exception):
    """The message is one sentence for the user: the value, the place and the remedy."""
