"""Set-up of the client of object stores (`gs://`), and one-line messages for the client's failures."""

import functools
import logging
import os
from collections.abc import Iterator

from etils import epath

from lossline_jax.errors import LosslineError, Restart, install_hint

PROBE_SECONDS = 15.0  # time limit for a bucket to answer, before a command begins
LOGIN = "log in with `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
ACCESS = "give this account the role roles/storage.objectAdmin on the bucket"
# Packages whose exceptions come from the network or the store. TensorStore raises ValueError; see token_shards.py.
CLIENTS = {"gcsfs", "fsspec", "aiohttp", "requests", "urllib3", "google"}


def reachable_path(path: epath.PathLike) -> epath.Path:
    """Return the path that a user named, with `~` replaced and after its bucket has answered. No file is read.

    Every command calls this function for each path it is given. A wrong name therefore fails at once, and not after
    minutes of retries, which are meant for a store that fails later.

    Args:
        path: path or `gs://` address as the user wrote it.

    Raises:
        LosslineError: `~name` names no user, gcsfs is not installed, there is no such bucket, or the account may not
            list the bucket.
        Restart: the store does not answer.
    """
    text = expanded(path)
    scheme, _, rest = text.partition("://")
    if scheme == "gs":
        _probe(rest.split("/")[0])
    return epath.Path(text)


def expanded(path: epath.PathLike) -> str:
    """Return the path with `~` or `~name` at its start replaced by the home. A shell leaves `--flag=~/x` as it is.

    Args:
        path: path as the user wrote it.

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

        # These arguments give the same cached instance that epath uses. The probe lists the bucket, because every
        # other call of the client hides some failures.
        store = fsspec.filesystem("gcs", finalize_on_close=True)
        store.ls(bucket, max_results=1, timeout=PROBE_SECONDS)
    except ImportError as error:
        raise LosslineError(f"{where}: needs gcsfs: {install_hint('gcs')}") from error
    except FileNotFoundError as error:
        raise LosslineError(f"{where}: no such bucket; create it or fix the name") from error
    except Exception as error:  # gcsfs lets errors of aiohttp, google-auth and requests through; they share no base
        store_failure = failure(error)
        if store_failure is None:
            raise LosslineError(f"{where}: cannot be listed ({_first_line(error)}); {ACCESS}") from error
        raise type(store_failure)(f"{where}: {store_failure}") from error


def _set_up_client() -> None:
    """Configure the client before it is created, so that it sees the files that other processes write."""
    # Otherwise gcsfs asks a second service for the kind of the bucket, and repeats that where it has no access.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # gcsfs also prints each error that it raises, with a trace
    try:
        from fsspec.config import conf
    except ImportError:
        return  # the message of the probe says which package to install
    conf.setdefault("gs", {}).setdefault("use_listings_cache", False)


def failure(error: BaseException) -> LosslineError | None:
    """Return an exception of an object store's client as an error with a one-line message.

    None: the exception does not come from such a client, or is a `LosslineError` already.

    Args:
        error: the exception; its causes are searched too.
    """
    if isinstance(error, LosslineError):
        return None
    for cause in _causes(error):
        if type(cause).__module__.split(".")[0] not in CLIENTS:
            continue
        if type(cause).__name__ == "HttpError" and getattr(cause, "code", None) in (401, "401"):
            return LosslineError(f"the store refuses access without credentials; {LOGIN}")
        if type(cause).__module__.startswith("google.auth"):
            return LosslineError(f"no valid credentials ({_first_line(cause)}); {LOGIN}")
        reason = "in time" if isinstance(cause, TimeoutError) else f"({_first_line(cause)})"
        return Restart(f"the store does not answer {reason}; check the network and try again")
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
