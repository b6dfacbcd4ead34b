"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """A mistake in the input that the user can mend: shown as text, without a traceback, exit code 2."""
