"""Why a disk refused a write, and what to do about it. Only a full disk asks for free space."""

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
    """Return the errno behind an error. TensorStore and safetensors write theirs into a text. None: there is none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    code = re.search(r"os_error_code='(\d+)'|\bos error (\d+)\b", str(error), re.IGNORECASE)
    if code is not None:
        return int(code[1] or code[2])
    return None if error.__cause__ is None else error_number(error.__cause__)


def reason(error: BaseException) -> str:
    """Return the first line of an error without TensorStore's dump of its own settings."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return re.sub(r" \[[\w ]+='.*", "", text.splitlines()[0])


def cannot_write(error: OSError) -> str:
    """Return the cause of a refused write and its cure, to stand behind the name of the file."""
    return f"cannot write ({reason(error)}); {CURES.get(error_number(error), OTHER)}"
