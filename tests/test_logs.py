"""Messages name their process, and go to streams of any encoding and to closed pipes."""

import io
import logging
import os
import subprocess
import sys

import pytest

from lossline_jax import errors, logs
from lossline_jax.cli import main
from lossline_jax.config.execution import ALONE, ExecutionConfig
from lossline_jax.distributed import shutdown
from lossline_jax.pipeline import run_context


@pytest.fixture(autouse=True)
def _alone_again():
    yield
    logs.set_process(0, 1)


def test_a_process_that_is_alone_prints_without_a_prefix(capsys):
    logs.info("one\ntwo")
    logs.warning("three")
    assert capsys.readouterr() == ("", "one\ntwo\nthree\n")


def test_with_several_processes_the_first_prints_and_the_others_only_warn(capsys):
    logs.set_process(0, 4)
    logs.info("news")
    logs.set_process(1, 4)
    logs.info("news")
    logs.warning("trouble\nmore of it")
    assert capsys.readouterr() == ("", "[p0/4] news\n[p1/4] trouble\n[p1/4] more of it\n")


MESSAGE = "── −1 ± 2 → ∞ é 日 😀 \ud800"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-8", r"── −1 ± 2 → ∞ é 日 😀 \ud800"),
        ("ascii", r"-- -1 +- 2 -> inf \xe9 \u65e5 \U0001f600 \ud800"),
        ("latin-1", r"-- -1 ± 2 -> inf é \u65e5 \U0001f600 \ud800"),
        ("cp1252", r"-- -1 ± 2 -> inf é \u65e5 \U0001f600 \ud800"),
        ("euc_jp", r"── −1 ± 2 → ∞ é 日 \U0001f600 \ud800"),
    ],
)
def test_a_stream_gets_what_its_encoding_can_carry(monkeypatch, stream, encoding, written):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, stream, io.TextIOWrapper(raw, encoding=encoding, newline="\n"))
    logs.take_any_text()
    (logs.result if stream == "stdout" else logs.warning)(MESSAGE)
    logs.finish()
    assert raw.getvalue().decode(encoding) == written + "\n"


def test_another_handler_can_write_what_is_logged(tmp_path):
    handler = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    logger = logging.getLogger("lossline")
    logger.addHandler(handler)
    try:
        logs.warning(f"{MESSAGE}\x1b[2J\nsecond line")
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert (tmp_path / "log").read_text("utf-8").splitlines()[1:] == ["second line"]
    assert (tmp_path / "log").read_text("utf-8").startswith(r"── −1 ± 2 → ∞ é 日 😀 \ud800")
    assert "\x1b" not in (tmp_path / "log").read_text("utf-8")


def test_a_closed_stream_takes_everything(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    logs.take_any_text()
    logs.result("result")
    logs.warning("trouble")
    logs.finish()


def shell(command, **variables):
    """Run a line of bash in which `lossline-jax` is this package."""
    environment = os.environ | variables | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    line = f'lossline-jax() {{ {sys.executable} -m lossline_jax "$@"; }}; {command}'
    return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, timeout=100)


def test_closed_and_full_streams_give_no_stack_trace():
    """The cases are a pipe that is closed at once, a full disk, no stdout and no stderr."""
    process = shell(
        "set -o pipefail; lossline-jax --help | true; echo $?; lossline-jax --help >/dev/full; echo $?; "
        "lossline-jax --help >&-; echo $?; lossline-jax nonsense 2>&-; echo $?",
    )
    assert process.stdout.split() == [b"141", b"1", b"0", b"2"]
    assert process.stderr == b"lossline: input or output: No space left on device\n"


def test_a_broken_pipe_of_the_network_is_reported(capsys, monkeypatch):
    """Stdout and stderr work, so the broken pipe is one of the network, and the command must fail."""

    def dispatch(argv):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(main, "dispatch", dispatch)
    with pytest.raises(SystemExit) as stopped:
        main.main(["laws"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "lossline: input or output: Broken pipe\n"


def test_a_command_drops_what_a_failed_save_prints_late():
    code = """
import asyncio, logging, sys
from lossline_jax.cli.main import main
try:
    main(["--version"])
except SystemExit:
    pass
class Late:
    def __init__(self, message): self.message = message
    def __del__(self): raise RuntimeError(self.message)
Late("Event loop is closed")
Late("something else")
logging.getLogger("asyncio").error("Task exception was never retrieved")
try:
    raise OSError("no space")
except OSError:
    logging.getLogger("absl").exception("a thread raised an exception")
logging.getLogger("absl").error("another line")
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "something else" in process.stderr
    assert "Event loop" not in process.stderr
    assert "never retrieved" not in process.stderr
    assert "no space" not in process.stderr
    assert "another line" in process.stderr


@pytest.mark.parametrize(("raised", "code"), [(SystemExit(42), 42), (KeyboardInterrupt(), 130)])
def test_only_a_process_of_the_command_skips_the_end_of_the_interpreter(monkeypatch, raised, code):
    """A caller that gives `main` its arguments gets the exception."""

    def dispatch(argv):
        raise raised

    ended = []
    monkeypatch.setattr(main, "dispatch", dispatch)
    monkeypatch.setattr(main.os, "_exit", ended.append)
    with pytest.raises(SystemExit, match=str(code)):
        main.main(["run", "config/study.py"])
    assert ended == []
    monkeypatch.setattr(sys, "argv", ["lossline-jax", "run", "config/study.py"])
    with pytest.raises(SystemExit):  # the stand-in for `_exit` returns, so the code after it runs
        main.main()
    assert ended == [code]


def test_a_handler_is_called_once_at_the_end_of_a_command(capsys, monkeypatch):
    ended = []

    def handler(exit_code, together):
        ended.append((exit_code, together))

    monkeypatch.setattr(logs, "_exit_handlers", [])
    logs.on_exit(handler)
    logs.on_exit(handler)
    main.main(["--version"])
    with pytest.raises(SystemExit):
        main.main(["nonsense"])
    assert ended == [(0, True), (2, False)]
    capsys.readouterr()


def test_an_error_that_an_explainer_knows_is_one_line(capsys, monkeypatch):
    def out_of_memory(argv):
        raise MemoryError("bytes")

    def explain(error):
        return errors.LosslineError("too large; take less") if isinstance(error, MemoryError) else None

    monkeypatch.setattr(main, "dispatch", out_of_memory)
    monkeypatch.setattr(errors, "_explainers", [])
    with pytest.raises(MemoryError):
        main.main(["run"])
    errors.explain_with(explain)
    with pytest.raises(SystemExit, match="2"):
        main.main(["run"])
    assert capsys.readouterr().err == "lossline: too large; take less\n"


def test_starting_the_devices_registers_their_handlers(monkeypatch):
    """A command that trains must explain errors of devices, and end together with the other processes of its run."""
    monkeypatch.setattr(logs, "_exit_handlers", [])
    monkeypatch.setattr(errors, "_explainers", [])
    monkeypatch.setattr(run_context, "configure_devices", lambda execution: None)
    monkeypatch.setattr(run_context, "connect", lambda processes: None)
    run_context.start_devices(ExecutionConfig(), ALONE)
    assert logs._exit_handlers == [shutdown.shut_down]
    assert errors._explainers == [shutdown.explain_device_error]
