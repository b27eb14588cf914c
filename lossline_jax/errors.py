"""The one exception that a user's mistake raises."""

RESTART_EXIT_CODE = 42  # "checkpointed, restart me": xpk and the launchers of this house restart on it


class LosslineError(Exception):
    """Something the user can mend. The message is one line: what is wrong, where, and the mend.

    The command line prints it without a stack trace and exits with `exit_code`.
    """

    exit_code = 2


class RunBusy(LosslineError):
    """Another process is working on the run."""


class StartAgain(LosslineError):
    """Something outside the run broke off (a peer died, a machine is wanted back): the same command goes on."""

    exit_code = RESTART_EXIT_CODE


class RunFailed(LosslineError):
    """A run that cannot go on (non-finite loss, damaged checkpoint). Permanent: not to be retried."""

    exit_code = 1


class StorageLost(LosslineError):
    """An object store does not answer. Nothing is wrong with the run: to be started again, as after a checkpoint."""

    exit_code = 42
