"""Object stores (`gs://`): how their client is set up, and what its failures mean in one line."""

import functools
import logging
import os
from collections.abc import Iterator

from etils import epath

from lossline_jax.errors import LosslineError, StorageLost

PROBE_SECONDS = 15.0  # that a bucket has to answer in, before a command begins
LOGIN = "log in with `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
ACCESS = "give this account the role roles/storage.objectAdmin on the bucket"
# Packages whose exceptions are those of the network or of the store. TensorStore raises ValueError: data/shards.py.
CLIENTS = {"gcsfs", "fsspec", "aiohttp", "requests", "urllib3", "google"}


def connect(path: epath.Path) -> epath.Path:
    """The path as it is, once its bucket has answered; one on a disk is not looked at.

    Every command calls this for what it is given, so that a wrong name fails at once and not after minutes of
    retries: those are for a store that fails later.

    Raises:
        LosslineError: gcsfs is not installed, there is no such bucket, or no right to list it.
        StorageLost: the store does not answer.
    """
    scheme, _, rest = str(path).partition("://")
    if scheme == "gs":
        _probe(rest.split("/")[0])
    return path


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
        raise LosslineError(f"{where}: needs gcsfs: pip install 'lossline_jax[gcs]'") from error
    except FileNotFoundError as error:
        raise LosslineError(f"{where}: no such bucket; create it or mend the name") from error
    except Exception as error:
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
    """What the exception of an object store's client means; None: it is not one of those."""
    for each in _causes(error):
        if type(each).__module__.split(".")[0] not in CLIENTS:
            continue
        if type(each).__name__ == "HttpError" and getattr(each, "code", None) in (401, "401"):
            return LosslineError(f"the store wants to know who asks; {LOGIN}")
        if type(each).__module__.startswith("google.auth"):
            return LosslineError(f"no valid credentials ({_first_line(each)}); {LOGIN}")
        reason = "in time" if isinstance(each, TimeoutError) else f"({_first_line(each)})"
        return StorageLost(f"the store does not answer {reason}; see to the network and try again")
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
