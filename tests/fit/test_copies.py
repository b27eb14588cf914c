"""Two runs with equal points are one run under two names. It is refused by name, or counted once."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lossline_jax.cli import main
from lossline_jax.errors import LosslineError
from lossline_jax.fit.study.fit_study import Statistics, fit_study
from lossline_jax.fit.study.table_lines import LineOptions, fit_lines
from lossline_jax.fit.tables.copies import find_copies
from tests.support.planted_lines import BASE, cell

AXES = ("--x", "val", "--y", "task")


def table(num_runs=3) -> pd.DataFrame:
    generator = np.random.Generator(np.random.PCG64(4))
    blocks = []
    for levels in (BASE, BASE | {"data": "code"}):
        setting = cell(generator, levels, num_runs)
        blocks.append(pd.DataFrame({**levels, "run_id": setting.runs, "val": setting.x, "task": setting.y}))
    return pd.concat(blocks, ignore_index=True)


def with_copies(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with every run a second time: under another name, and with its rows in another order."""
    copies = frame.assign(run_id=frame["run_id"] + "-again").sample(frac=1, random_state=0)
    return pd.concat([frame, copies], ignore_index=True)


def pairs(frame, within=()):
    copies = find_copies(frame, "run_id", ("val", "task"), within)
    return [(copy.kept, copy.copy) for copy in copies if copy.is_certain]


def test_a_run_under_two_names_is_refused_by_both_names():
    with pytest.raises(LosslineError) as refused:
        fit_study(with_copies(table()), "val", "task")
    first = table()["run_id"].iloc[0]
    assert f"runs '{first}' and '{first}-again' have 10 points that are all equal (and 5 more)" in str(refused.value)
    assert "or set merge_copies to keep the first of each" in str(refused.value)


def test_merged_copies_count_once_and_are_named():
    merged = fit_study(with_copies(table()), "val", "task", merge_copies=True)
    assert merged.comparisons == fit_study(table(), "val", "task").comparisons
    assert sum("is kept" in failure for failure in merged.failures) == 6
    assert not any(run.endswith("-again") for run in merged.run_ids)


def test_every_verb_on_lines_refuses_and_merges(tmp_path, capsys):
    with_copies(table()).to_csv(tmp_path / "t.csv", index=False)
    losses = [str(tmp_path / "t.csv"), *AXES]
    for command in (["table", "compare", *losses], ["table", "fit", *losses, "--by", "data"]):
        with pytest.raises(SystemExit) as stopped:
            main.main(command)
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert "have 10 points that are all equal" in error
        assert "or set --merge-copies to keep the first of each" in error
        assert error.count("\n") == 1
        main.main([*command, "--merge-copies"])
        assert "is kept" in capsys.readouterr().out


def test_runs_of_one_group_of_a_fit_may_not_be_copies_and_of_two_groups_may():
    frame = with_copies(table())
    with pytest.raises(LosslineError, match="all equal"):
        fit_lines(frame, "val", "task", by=("data",))
    apart = frame.assign(name=frame["run_id"].str.endswith("-again"))
    fit_lines(apart, "val", "task", by=("data", "name"), options=LineOptions(num_resamples=5))


def test_equal_runs_of_two_settings_are_named_and_not_refused():
    frame = table()
    first = frame[frame["data"] == "wiki"].assign(data="web", run_id=lambda rows: rows["run_id"] + "-web")
    failures = fit_study(pd.concat([frame, first], ignore_index=True), "val", "task").failures
    assert sum("in two settings: is one of them named wrongly?" in failure for failure in failures) == 3


@given(decimals=st.integers(3, 12), fewer=st.integers(0, 9), seed=st.integers(0, 2**32 - 1))
@example(decimals=4, fewer=1, seed=9603413)  # rounding changes the order of two points
@settings(max_examples=60, deadline=None)
def test_copies_printed_with_fewer_digits_are_found_and_other_runs_are_not(decimals, fewer, seed):
    generator = np.random.Generator(np.random.PCG64(seed))
    points = generator.uniform(1, 9, (10, 2))
    again = np.round(points, max(3, decimals - fewer))[generator.permutation(10)]
    other_points = points + generator.normal(0, 0.05, points.shape)
    frame = pd.DataFrame(np.concatenate([np.round(points, decimals), again, other_points]), columns=["val", "task"])
    frame["run_id"] = np.repeat(["a", "again", "other"], 10)
    assert pairs(frame) == [("a", "again")]


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ([4.1, 4.0, 3.9], [4.1, 4.0, 3.9], True),
        ([4.1, 4.0], [4.1, 4.0], False),  # two points may be equal by chance
        ([4.1, 4.0, 3.9], [4.12, 4.04, 3.93], False),  # points that are rounded to one digit may be equal by chance too
        ([4.1, 4.0, 3.9], [4.1, 4.0, 3.9, 3.8], False),  # the second run continued, so not all of its points are equal
        ([4.1, 4.0, float("nan"), 3.9], [4.1, 4.0, 3.9], True),
        ([4.1234567, 4.0, 3.9], [np.float32(4.1234567), 4.0, 3.9], True),
    ],
)
def test_copies_have_three_or_more_points_that_are_all_equal(first, second, equal):
    rows = [("a", value, value + 1) for value in first] + [("b", value, value + 1) for value in second]
    assert bool(pairs(pd.DataFrame(rows, columns=["run_id", "val", "task"]))) == equal


def test_the_same_run_under_two_seeds_is_a_copy_and_two_seeds_of_it_are_not():
    frame = table().assign(seed=0)
    again = frame.assign(seed=1, run_id=frame["run_id"].str.replace("wiki", "seed1-wiki"))
    copies = pairs(pd.concat([frame, again], ignore_index=True), ("data",))
    assert {second for _, second in copies} == set(again["run_id"]) - set(frame["run_id"])
    assert pairs(frame) == []


def sizes_table() -> pd.DataFrame:
    """Return six runs of a Chinchilla law with three checkpoints each, and a copy of each run under another name."""
    generator = np.random.Generator(np.random.PCG64(5))
    rows = [
        {"run_id": f"r{k}", "params": params, "tokens": share * tokens, "budget": 6 * params * tokens}
        for k, (params, tokens) in enumerate((n, d) for n in (1e7, 3e7, 1e8) for d in (1e9, 4e9))
        for share in (0.25, 0.5, 1.0)
    ]
    frame = pd.DataFrame(rows)
    frame["loss"] = 1.7 + 400 / frame["params"] ** 0.34 + 410 / frame["tokens"] ** 0.28
    frame["loss"] += generator.normal(0, 0.005, len(frame))
    return with_copies(frame)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["fit", "--law", "chinchilla", "--input", "N=params", "D=tokens"],
        ["predict", "--params", "params", "--tokens", "tokens", "--at-flops", "1e20"],
        ["backtest", "--params", "params", "--tokens", "tokens"],
    ],
    ids=lambda command: command[0],
)
def test_every_verb_on_laws_refuses_and_merges(command, tmp_path, capsys):
    table = tmp_path / "t.csv"
    sizes_table().to_csv(table, index=False)
    with pytest.raises(SystemExit) as stopped:
        main.main(["table", command[0], str(table), *command[1:], "--y", "loss"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "runs 'r0' and 'r0-again' have 3 points that are all equal (and 5 more)" in error
    assert error.count("\n") == 1
    main.main(["table", command[0], str(table), *command[1:], "--y", "loss", "--merge-copies"])
    merged = capsys.readouterr().out
    assert merged.count("is kept") == 6
    assert "occur more than once" not in merged


SIZES = ("--y", "task", "--params", "params", "--tokens", "tokens")


@pytest.mark.parametrize("missing", ["params", "tokens"])
@pytest.mark.parametrize(
    "command",
    [
        ("predict", *SIZES, "--at-params", "1e9", "--at-tokens", "2e10"),
        ("backtest", *SIZES),
        ("fit", "--law", "kaplan", "--y", "task", "--input", "N=params", "D=tokens"),
    ],
    ids=lambda command: command[0],
)
def test_a_column_of_sizes_that_is_not_there_is_named(tmp_path, capsys, command, missing):
    """The search for copies reads these columns before the law does."""
    frame = table().assign(params=1e6, tokens=1e9).drop(columns=missing)
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(SystemExit) as leaving:
        main.main(["table", command[0], str(tmp_path / "t.csv"), *command[1:]])
    assert leaving.value.code == 2
    assert f"the table has no column '{missing}'" in capsys.readouterr().err


SLACK, CHECKPOINTS = 0.01, 8


def seeds(generator, num_runs, jitter, num_points=CHECKPOINTS, offset=SLACK, num_settings=2) -> pd.DataFrame:
    """Return runs without copies. Each has a constant offset from the line of its setting, and noise at checkpoints."""
    blocks = []
    for setting in range(num_settings):
        for run in range(num_runs):
            val = np.linspace(5, 2.6, num_points) + generator.normal(0, offset)
            val += generator.normal(0, jitter, num_points)
            task = 0.8 * (val - 1.5) ** 1.2 + 0.7 + 0.1 * setting
            task += generator.normal(0, offset) + generator.normal(0, jitter, num_points)
            blocks.append(pd.DataFrame({"data": f"d{setting}", "run_id": f"{setting}-{run}", "val": val, "task": task}))
    return pd.concat(blocks, ignore_index=True)


def with_copy(frame, change) -> pd.DataFrame:
    """Return the table with a changed copy of the first run under another name."""
    first = frame[frame["run_id"] == "0-0"]
    return pd.concat([frame, change(first).assign(run_id="again")], ignore_index=True)


def seed_copies(frame):
    return find_copies(frame, "run_id", ("val", "task"), ("data",))


@pytest.mark.slow
@pytest.mark.parametrize("num_points", [3, 8, 20])
@pytest.mark.parametrize(("offset", "jitter"), [(0.0, 5e-4), (1e-3, 1e-3), (5e-3, 2e-3), (0.01, 0.0), (0.0, 5e-3)])
@pytest.mark.parametrize("decimals", [1, 2])
def test_honest_seeds_printed_with_two_decimals_are_never_refused(num_points, offset, jitter, decimals):
    generator = np.random.Generator(np.random.PCG64(6))
    for _ in range(20):
        frame = seeds(generator, 4, jitter, num_points, offset).round(decimals)
        assert not any(copy.is_certain for copy in seed_copies(frame))


@pytest.mark.parametrize(("jitter", "least"), [(5e-3, 0), (8e-3, 18), (1e-2, 20)])
def test_a_copy_printed_with_two_decimals_is_always_named_and_refused_where_seeds_differ_more(jitter, least):
    generator = np.random.Generator(np.random.PCG64(7))
    refused = 0
    for _ in range(20):
        frame = with_copy(seeds(generator, 4, jitter), lambda first: first.round(2))
        ((kept, name, certain),) = [(copy.kept, copy.copy, copy.is_certain) for copy in seed_copies(frame)]
        assert (kept, name) == ("0-0", "again")
        refused += certain
    assert refused >= least


def test_a_possible_copy_is_named_and_kept():
    frame = with_copy(seeds(np.random.Generator(np.random.PCG64(8)), 3, 1e-4), lambda first: first.round(2))
    fits = fit_study(frame, "val", "task", statistics=Statistics(num_resamples=5))
    message = "runs '0-0' and 'again' have 8 points that are all equal, as far as they are printed: is it one run"
    assert sum(message in failure for failure in fits.failures) == 1
    assert "again" in fits.run_ids


@given(seed=st.integers(0, 2**32 - 1), num_kept=st.integers(3, CHECKPOINTS - 1), decimals=st.sampled_from([5, 7, 12]))
@settings(max_examples=40, deadline=None)
def test_a_run_short_of_any_checkpoints_is_a_copy_and_the_longer_one_is_kept(seed, num_kept, decimals):
    generator = np.random.Generator(np.random.PCG64(seed))
    frame = seeds(generator, 3, 3e-3)
    part = with_copy(frame, lambda first: first.sample(num_kept, random_state=seed % 1000).round(decimals))
    (copy,) = seed_copies(part.iloc[::-1])
    assert (copy.kept, copy.copy, copy.num_points, copy.num_kept) == ("0-0", "again", num_kept, CHECKPOINTS)
    assert copy.is_certain
    text = str(copy)
    assert f"the {num_kept} points of run 'again' are all among the {CHECKPOINTS} of '0-0'" in text


def test_a_part_is_found_in_a_long_table_and_merged():
    frame = seeds(np.random.Generator(np.random.PCG64(9)), 3, 3e-3)
    frame = with_copy(frame, lambda first: first.iloc[:-1]).assign(step=lambda rows: rows.groupby("run_id").cumcount())
    long = frame.melt(["run_id", "data", "step"], ["val", "task"], "eval_set", "nats_per_token")
    with pytest.raises(LosslineError, match="the 7 points of run 'again' are all among the 8 of '0-0'"):
        fit_study(long, "val", "task", statistics=Statistics(num_resamples=5))
    merged = fit_study(long, "val", "task", statistics=Statistics(num_resamples=5), merge_copies=True)
    assert "again" not in merged.run_ids
    assert "0-0" in merged.run_ids


def test_honest_seeds_of_many_checkpoints_are_no_part_of_each_other():
    """A long run has points near every other point of its line, so short runs of this line lie close to it."""
    generator = np.random.Generator(np.random.PCG64(10))
    long = seeds(generator, 1, 1e-3, num_points=2000, offset=0, num_settings=1)
    short = seeds(generator, 40, 1e-3, num_points=3, offset=0, num_settings=1)
    short["run_id"] = "short " + short["run_id"]
    assert not any(copy.is_certain for copy in seed_copies(pd.concat([long, short]).round(3)))


def test_a_run_of_a_law_short_of_a_checkpoint_is_a_copy():
    frame = sizes_table()
    frame = frame[~((frame["run_id"] == "r0-again") & (frame["tokens"] > 9e8))]
    frame = pd.concat([frame, frame[frame["run_id"] == "r1"].assign(run_id="longer", tokens=8e9)], ignore_index=True)
    copies = find_copies(frame, "run_id", ("loss",), (), sizes=("params", "tokens"))
    assert [(copy.kept, copy.copy) for copy in copies] == [(f"r{k}", f"r{k}-again") for k in range(1, 6)]
