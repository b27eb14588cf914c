"""Why did a disk refuse a write, and what can the user do? Only a full disk or quota asks for free space."""

import errno
import re

CURES = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space: your quota on that disk is used up",
    errno.EFBIG: "that disk or `ulimit -f` allows no file so large; raise the limit or choose another folder",
    errno.EACCES: "fix its permissions or choose another folder",
    errno.EPERM: "fix its permissions or choose another folder",
    errno.EROFS: "that disk is mounted read-only; choose another folder",
}
OTHER = "choose another folder"


def error_number(error: BaseException) -> int | None:
    """Return the errno behind an error. None: the error has none.

    TensorStore and safetensors only write the errno into the text of their errors.

    Args:
        error: the error; its causes are searched too.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    code = re.search(r"os_error_code='(\d+)'|\bos error (\d+)\b", str(error), re.IGNORECASE)
    if code is not None:
        return int(code[1] or code[2])
    return None if error.__cause__ is None else error_number(error.__cause__)


def reason(error: BaseException) -> str:
    """Return the first line of an error without the settings that TensorStore appends.

    Args:
        error: the error of a disk or of a library that writes to it.
    """
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return re.sub(r" \[[\w ]+='.*", "", text.splitlines()[0])


def cannot_write(error: OSError) -> str:
    """Return the cause of a refused write and its cure, as the end of a message that begins with the file's name.

    Args:
        error: the error of the write.
    """
    number = error_number(error)
    cure = OTHER if number is None else CURES.get(number, OTHER)
    return f"cannot write ({reason(error)}); {cure}"
