"""Object stores (`gs://`): how their client is set up, and what its failures mean in one line."""

import functools
import logging
import os
from collections.abc import Iterator

from etils import epath

from lossline_jax.errors import LosslineError, Restart, install_hint

PROBE_SECONDS = 15.0  # that a bucket has to answer in, before a command begins
LOGIN = "log in with `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
ACCESS = "give this account the role roles/storage.objectAdmin on the bucket"
# Packages whose exceptions are those of the network or of the store. TensorStore raises ValueError: token_shards.py.
CLIENTS = {"gcsfs", "fsspec", "aiohttp", "requests", "urllib3", "google"}


def reachable_path(path: epath.PathLike) -> epath.Path:
    """The path that a user named: `~` stands for a home, and a bucket has answered. No file is looked at.

    Every command calls this for what it is given, so that a wrong name fails at once and not after minutes of
    retries: those are for a store that fails later.

    Raises:
        LosslineError: `~name` of no user, gcsfs is not installed, no such bucket, or no right to list it.
        Restart: the store does not answer.
    """
    text = expanded(path)
    scheme, _, rest = text.partition("://")
    if scheme == "gs":
        _probe(rest.split("/")[0])
    return epath.Path(text)


def expanded(path: epath.PathLike) -> str:
    """The path with `~` or `~name` in front replaced by that home: a shell leaves `--flag=~/x` as it is.

    Raises:
        LosslineError: there is no such user.
    """
    text = os.path.expanduser(os.fspath(path))
    if text.startswith("~"):
        raise LosslineError(
            f"{text}: no user {text.split('/')[0][1:]!r} has a home here; write ./{text} for a file of that name"
        )
    return text


@functools.cache
def _probe(bucket: str) -> None:
    where = f"gs://{bucket}"
    _set_up_client()
    try:
        import fsspec

        # The very instance that epath works with. All but the listing of a bucket swallows some failures.
        store = fsspec.filesystem("gcs", finalize_on_close=True)
        store.ls(bucket, max_results=1, timeout=PROBE_SECONDS)
    except ImportError as error:
        raise LosslineError(f"{where}: needs gcsfs: {install_hint('gcs')}") from error
    except FileNotFoundError as error:
        raise LosslineError(f"{where}: no such bucket; create it or mend the name") from error
    except Exception as error:  # gcsfs passes on those of aiohttp, google-auth and requests, which share no base
        lost = failure(error)
        if lost is None:
            raise LosslineError(f"{where}: cannot be listed ({_first_line(error)}); {ACCESS}") from error
        raise type(lost)(f"{where}: {lost}") from error


def _set_up_client() -> None:
    """Before the client is made: what other processes write must be seen, and nothing but the store be asked."""
    # Else gcsfs asks another service for the kind of the bucket, again and again where it may not.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints what it raises, with a stack trace
    try:
        from fsspec.config import conf
    except ImportError:
        return  # the probe says what to install
    conf.setdefault("gs", {}).setdefault("use_listings_cache", False)


def failure(error: BaseException) -> LosslineError | None:
    """What the exception of an object store's client means; None: it is not one of those, or says so itself."""
    if isinstance(error, LosslineError):
        return None
    for each in _causes(error):
        if type(each).__module__.split(".")[0] not in CLIENTS:
            continue
        if type(each).__name__ == "HttpError" and getattr(each, "code", None) in (401, "401"):
            return LosslineError(f"the store wants to know who asks; {LOGIN}")
        if type(each).__module__.startswith("google.auth"):
            return LosslineError(f"no valid credentials ({_first_line(each)}); {LOGIN}")
        reason = "in time" if isinstance(each, TimeoutError) else f"({_first_line(each)})"
        return Restart(f"the store does not answer {reason}; see to the network and try again")
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
