"""The errors a user meets: one sentence each, with the exit code that the command line gives them.

Nothing else lives here. Every room raises these; `headwater.cli` shows them.
"""


class HeadwaterError(Exception):
    """The work was asked for rightly and failed (exit code 1)."""

    exit_code = 1


class RequestError(HeadwaterError):
    """The request itself was wrong (exit code 2): a file, a name or a value that cannot be meant."""

    exit_code = 2


class HeadwaterWarning(UserWarning):
    """Something a user should know that does not stop the work."""
