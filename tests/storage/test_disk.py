"""Only the message of a full disk asks for free space. Every other failed write shows its own cause."""

import errno
import os

import pytest
from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.storage.disk import CURES, cannot_write, error_number, reason
from lossline_jax.storage.files import write_atomic
from lossline_jax.storage.staged_folder import staged_folder

FULL = (errno.ENOSPC, errno.EDQUOT)
NUMBERS = [number for number in sorted(errno.errorcode) if os.strerror(number) != os.strerror(0)]


def of_tensorstore(number):
    settings = f"[tensorstore_spec='{{}}'] [os_error_code='{number}']"
    return ValueError(
        f"RESOURCE_EXHAUSTED: Failed to write: {os.strerror(number)} {settings}\nIn source location: a.cc"
    )


def of_older_tensorstore(number):
    """Return the error as tensorstore 0.1.74 words it."""
    cause = f"[OS error {number}: {errno.errorcode[number]} {os.strerror(number)}]"
    return ValueError(f"RESOURCE_EXHAUSTED: Failed to write to file {cause} [source locations='tensorstore_spec.cc:1']")


def of_safetensors(number):
    return OSError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")


def of_python(number):
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("make", [of_python, of_tensorstore, of_older_tensorstore, of_safetensors])
def test_every_error_number_has_its_own_words_and_only_a_full_disk_asks_for_space(make):
    for number in NUMBERS:
        error = make(number)
        assert error_number(error) == number
        assert os.strerror(number) in reason(error)
        assert "tensorstore_spec" not in reason(error)
        assert ("free space" in cannot_write(error)) == (number in FULL)


def test_an_error_without_a_number_is_no_error_of_the_disk():
    error = ValueError("Received incompatible devices for jitted computation.")
    assert error_number(error) is None
    error.__cause__ = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    assert error_number(error) == errno.EDQUOT
    assert reason(ValueError()) == "ValueError"


@pytest.mark.parametrize("number", [*CURES, errno.EIO])
def test_files_and_folders_name_the_cause_and_leave_nothing(tmp_path, monkeypatch, number):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    folder = epath.Path(tmp_path)
    with pytest.raises(LosslineError, match=os.strerror(number)) as file_error:
        write_atomic(folder / "a.json", "{}")
    with pytest.raises(LosslineError, match=os.strerror(number)) as folder_error, staged_folder(folder / "b"):
        refuse(None)
    for error in (file_error, folder_error):
        assert ("free space" in str(error.value)) == (number in FULL)
    assert list(tmp_path.iterdir()) == []
