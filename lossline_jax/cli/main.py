"""The entry point of the command line. It finds the verb, parses the words after the verb, and calls its function.

lossline-jax VERB STUDY.py [flags]      a study, from its experiment file
lossline-jax VERB quickstart [flags]    a study that comes with lossline, by its name
lossline-jax VERB STUDY_FOLDER [flags]  the same study, from the folder that an earlier command made
lossline-jax table VERB TABLE [flags]   any table of losses
"""

import contextlib
import os
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator, Mapping

from lossline_jax import __version__, logs
from lossline_jax.cli import options, verbs
from lossline_jax.cli.parsing import COMMAND, HELP, flag_of, is_root, is_table, parse_options, parse_study, show_help
from lossline_jax.cli.verbs import VERBS, Verb
from lossline_jax.errors import RESTART_EXIT_CODE, ArgumentError, LosslineError, explanation, likeliest_name
from lossline_jax.formatting import shown
from lossline_jax.pipeline import shipped
from lossline_jax.storage.object_store import failure, reachable_path
from lossline_jax.storage.paths import ModelDir

INTERRUPTED_EXIT_CODE = 130  # 128 + SIGINT
PIPE_EXIT_CODE = 141  # 128 + SIGPIPE


def usage() -> str:
    """Return the help page."""
    names = ", ".join(shipped.experiment_names())
    shipped_names = textwrap.fill(f"a study of your own, or by its name one of these: {names}", width=100)
    return f"""lossline: a laboratory for loss-to-loss scaling laws

usage: {COMMAND} VERB STUDY [flags]            STUDY: an experiment file, an experiment's name, or a study's folder
       {COMMAND} table VERB TABLE [flags]      TABLE: .csv, .tsv or .jsonl (also with .gz, .zst, .xz, .bz2), or .parquet
       {COMMAND} VERB STUDY --help             the flags of a verb, with the knobs of the experiment

{shipped_names}
{_lines(verbs.NEW_VERBS)}
the road, left to right; each verb skips what is done and can be killed at any moment
{_lines(verbs.STUDY_VERBS)}
weights in and out: folders of safetensors with config.json and tokenizer.json, as transformers reads and writes them
{_lines(verbs.WEIGHT_VERBS)}
any table of losses: `{COMMAND} table VERB TABLE [flags]`; each takes --help
{_lines(verbs.TABLE_VERBS)}
laws, and tables of "LLMs on the Line" and "Loss-to-Loss Prediction"
{_lines(verbs.OTHER_VERBS)}
many runs over machines: launch/README.md; `{COMMAND} run --manifest M [--index I]` does one of them
{_lines(verbs.ENGINE_VERBS)}"""


def _lines(verbs: Mapping[str, Verb]) -> str:
    width = max(map(len, verbs))
    return "".join(f"  {name:<{width}}  {verb.help}\n" for name, verb in verbs.items())


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit.

    The exit code is 0 for success, 1 for a failed run, and 2 for a user's mistake. It is 42 if the command should be
    started again at once, and 75 if another process works on the run. If the reader of the output has ended
    (`| head`), the command ends without a message and with the exit code of SIGPIPE.

    Args:
        argv: the words after `lossline-jax`. None: the arguments of this process, which then belongs to the command.
            Such a process exits at once when it is told to stop, and skips the slow clean-up of Python.
    """
    is_own_process, argv = argv is None, sys.argv[1:] if argv is None else argv
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # otherwise jax may print a line about its own exit at the end
    logs.take_any_text()
    logs.drop_late_complaints()
    try:
        dispatch(argv)
        sys.stdout.flush()
    except SystemExit as leaving:  # from the parser, or from a run that was told to stop with all its processes
        _leave(leaving.code, together=True, at_once=is_own_process and leaving.code == RESTART_EXIT_CODE)
    except KeyboardInterrupt:
        code = _complain("interrupted; the same command goes on where this one stopped", INTERRUPTED_EXIT_CODE)
        _leave(code, at_once=is_own_process)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and logs.reader_has_left():
            _leave(PIPE_EXIT_CODE)
        known = _known_error(error)
        if known is None and not logs.is_one_of_several():
            raise
        if known is None:
            traceback.print_exc()
            known = f"{type(error).__name__} (the trace is above); this process leaves and the others will", 1
        _leave(_complain(*known))
    _leave(0, together=True)


def _known_error(error: Exception) -> tuple[str, int] | None:
    """Return the message and the exit code of an error that is not a bug. None: the error is a bug."""
    known = error if isinstance(error, LosslineError) else failure(error) or explanation(error)
    if known is not None:
        return known.message_with(flag_of) if isinstance(known, ArgumentError) else str(known), known.exit_code
    if isinstance(error, OSError):
        # Another machine may not have this error, so that several processes should start again.
        code = RESTART_EXIT_CODE if logs.is_one_of_several() else 1
        return f"{error.filename or 'input or output'}: {error.strerror or error}", code
    return None


def _complain(message: str, exit_code: int) -> int:
    logs.warning(f"lossline: {shown(message)}")
    return exit_code


@contextlib.contextmanager
def _leaving_when_told() -> Iterator[None]:
    """Exit on SIGTERM with the code that asks for a restart. Training saves first (`distributed.preemption`).

    Outside training nothing is lost by exiting at once. If there are several processes, jax handles the signal.
    """

    def stop(*_: object) -> None:
        raise SystemExit(RESTART_EXIT_CODE)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _leave(exit_code: int | str | None, together: bool = False, at_once: bool = False) -> None:
    """End with this code. All locks are free and all files are complete, since every `with` block has ended.

    Args:
        exit_code: exit code, as `SystemExit.code` gives it.
        together: True if all processes of a run reach this end; see `logs.on_exit`.
        at_once: skip the clean-up of Python, which takes seconds. It needs an exit code that is a number.
    """
    logs.finish()
    logs.call_exit_handlers(exit_code, together)
    if at_once and isinstance(exit_code, int):
        os._exit(exit_code)
    if exit_code:
        sys.exit(exit_code)


def dispatch(argv: list[str]) -> None:
    """Parse the words of one command and call its verb.

    Args:
        argv: the words after `lossline-jax`.

    Raises:
        LosslineError: the words are not a command, or the verb fails.
    """
    if not argv or argv[0] in (*HELP, "help"):
        print(usage(), end="")
    elif argv[0] == "--version":
        print(f"{COMMAND} {__version__}")
    elif argv[0] == "table" and (len(argv) == 1 or argv[1] in HELP):
        print(f"usage: {COMMAND} table VERB TABLE [flags]\n\n{_lines(verbs.TABLE_VERBS)}", end="")
    else:
        length = 2 if argv[0] == "table" else 1
        name, words = " ".join(argv[:length]), argv[length:]
        if name not in VERBS:
            raise LosslineError(f"unknown verb {name!r}{_similar_verb(name)}; `{COMMAND} --help` lists them")
        _call(name, VERBS[name], words)


def _similar_verb(name: str) -> str:
    """Return `; did you mean 'table fit'?` or an empty string. The word `table` of a verb is not compared."""
    is_for_table = name.startswith("table ")
    likeliest_last = sorted(["table", *VERBS], key=lambda verb: verb.startswith("table ") == is_for_table)
    verbs = {verb.removeprefix("table "): verb for verb in likeliest_last}
    match = likeliest_name(name.removeprefix("table "), verbs)
    return f"; did you mean {verbs[match]!r}?" if match else ""


def _call(name: str, verb: Verb, words: list[str]) -> None:
    """Call a verb with the options that the words after it give."""
    begins_with_flag = not words or words[0].startswith("-")
    if verb.source == "STUDY":
        _call_with_study(name, verb, words, begins_with_flag)
    elif verb.source is None:
        _call_with(verb, parse_options(verb.options, words, f"{COMMAND} {name}"))
    elif not words or words[0] in HELP:
        parse_options(verb.options, ["--help"], f"{COMMAND} {name} {verb.source}")
    elif begins_with_flag:
        raise LosslineError(f"name {_noun(verb.source)} first: {COMMAND} {name} {verb.source} [flags]")
    else:
        chosen = parse_options(verb.options, words[1:], f"{COMMAND} {name} {words[0]}")
        _call_with(verb, words[0], chosen)


def _call_with_study(name: str, verb: Verb, words: list[str], begins_with_flag: bool) -> None:
    """Call a verb on the study that the first word names, or in the form that needs no study."""
    if words and words[0] in HELP:
        show_help(name, verb.options, verb.help)
    elif words and begins_with_flag and verb.without_study is not None:
        _call(name, verb.without_study, words)
    elif begins_with_flag:
        table = f"; a table: {COMMAND} table {name} TABLE" if f"table {name}" in VERBS else ""
        raise LosslineError(
            f"name a study first: {COMMAND} {name} quickstart (or an experiment file, or a study's folder){table}"
        )
    elif is_table(words[0]) and f"table {name}" in VERBS:
        raise LosslineError(f"{words[0]}: a table and not a study; give: {COMMAND} table {name} {words[0]}")
    elif verb.of_model is not None and ModelDir(reachable_path(words[0])).model_file.exists():
        _call(name, verb.of_model, words)
    elif verb.of_root is not None and is_root(words[0]):
        _call(name, verb.of_root, words)
    else:
        _call_with(verb, *parse_study(name, verb.options, words[0], words[1:]))


def _call_with(verb: Verb, *arguments: object) -> None:
    """Call the function of a verb. A verb that uses the devices also handles SIGTERM."""
    with _leaving_when_told() if issubclass(verb.options, options.OnDevices) else contextlib.nullcontext():
        verb.run(*arguments)


def _noun(source: str) -> str:
    nouns = {"TABLE": "a table", "DIR": "a folder", "NAME": "a new study", "MANIFEST": "a study or a manifest"}
    return nouns.get(source, f"the {source.lower()}")
