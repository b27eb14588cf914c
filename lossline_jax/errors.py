"""The one exception that a user's mistake raises, and the words for a package that is missing."""

BUSY_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: a temporary failure, try again later
RESTART_EXIT_CODE = 42  # "checkpointed, restart me": xpk and the launchers of this house restart on it


class LosslineError(Exception):
    """Something the user can mend. The message is one line: what is wrong, where, and the mend.

    The command line prints it without a stack trace and exits with `exit_code`.
    """

    exit_code = 2


def install_hint(extra: str) -> str:
    """Return the command that installs an extra of setup.py. lossline is on no index, so a checkout is needed."""
    return f"pip install -e '.[{extra}]' in your checkout of lossline"


class RunBusy(LosslineError):
    """Another process is working on the run. It is no mistake: the same command may be given again later."""

    exit_code = BUSY_EXIT_CODE


class StartAgain(LosslineError):
    """Something outside the run broke off (a peer died, a machine is wanted back): the same command goes on."""

    exit_code = RESTART_EXIT_CODE


class RunFailed(LosslineError):
    """A run that cannot go on (non-finite loss, damaged checkpoint). Permanent: not to be retried."""

    exit_code = 1
