"""The commands `lossline-jax table compare` and `table report` accept any table of losses."""

import json

import numpy as np
import pandas as pd
import pytest

from lossline_jax.cli import main
from lossline_jax.fit.study.results import StudyFits
from tests.support.planted_lines import BASE, cell
from tests.support.shared_data import shared_path

AXES = ("--x", "val", "--y", "task")


def table(settings, num_runs=4) -> pd.DataFrame:
    """Return a wide table with rows of a planted gap for each setting (levels, gap)."""
    generator = np.random.Generator(np.random.PCG64(0))
    blocks = []
    for levels, gap in settings:
        setting = cell(generator, levels, num_runs, gap)
        blocks.append(pd.DataFrame({**levels, "name": setting.runs, "val": setting.x, "task": setting.y}))
    return pd.concat(blocks, ignore_index=True)


SETTINGS = [(BASE, 0.0), (BASE | {"data": "code"}, 0.3), (BASE | {"size": "d32"}, 0.0)]


@pytest.fixture
def losses(tmp_path):
    def write(frame: pd.DataFrame) -> str:
        frame.to_csv(tmp_path / "losses.csv", index=False)
        return str(tmp_path / "losses.csv")

    return write


def test_compare_answers_for_every_factor(losses, capsys, tmp_path):
    out = tmp_path / "fits.json"
    main.main(["table", "compare", losses(table(SETTINGS)), *AXES, "--run", "name", "--out", str(out)])
    text = capsys.readouterr().out
    verdicts = {line.split()[0]: line for line in text.splitlines() if line.startswith(("data ", "size "))}
    assert verdicts["data"].endswith("  moves")
    assert verdicts["size"].endswith("does not move")
    (row,) = [line for line in text.splitlines() if line.startswith("  code ")]
    assert row.endswith("  moves, stays")
    (course,) = [line for line in text.splitlines() if line.startswith("data=code ")]
    assert float(course.split()[1]) == pytest.approx(0.3, abs=0.06)
    assert course.endswith("  stays")
    assert max(map(len, text.splitlines())) <= 100
    fits = StudyFits.from_json(json.loads(out.read_text()))
    assert [c.factor for c in fits.comparisons] == ["data", "size"]
    assert fits.comparisons[0].levels[0].gap == pytest.approx(0.3, abs=0.03)


def test_the_course_has_the_x_of_its_ends_and_no_p_where_it_stays(losses, capsys, tmp_path):
    """The p tests a change of zero. Beside `stays`, which the interval decides, a small p would look like a mistake."""
    frame = table(SETTINGS, num_runs=6)
    out = tmp_path / "fits.json"
    main.main(["table", "compare", losses(frame), *AXES, "--run", "name", "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    comparison = StudyFits.from_json(json.loads(out.read_text())).comparison("data")
    course = comparison.levels[0].course
    (k,) = [k for k, line in enumerate(lines) if line.startswith("data=code ")]
    places = lines[k + 1].split()
    assert places[:2] == ["at", "x"]
    assert [float(text) for text in places[2:4]] == pytest.approx(course.x, abs=6e-5)
    reached = frame.loc[(frame["size"] == BASE["size"])].groupby("name").val.agg(["min", "max"])  # by all their runs
    assert reached["min"].max() <= course.x[1] < course.x[0] <= reached["max"].min()
    size = next(k for k, line in enumerate(lines) if line.startswith("size="))
    assert lines[size].split()[-2:] == ["-", "stays"]  # p decides nothing here
    of_size = StudyFits.from_json(json.loads(out.read_text())).comparison("size")
    assert lines[size + 1].split()[-1] == f"±{of_size.margin:.4f}"
    assert of_size.levels[0].course.p is not None


BAD_LOSSES = ["diverged", -1.0, np.inf]


@pytest.mark.parametrize("bad", BAD_LOSSES, ids=str)
def test_a_level_whose_only_setting_has_a_bad_loss_is_named_with_the_verdict(bad, losses, capsys, tmp_path):
    """Without it the factor would seem not to move, although nobody compared the level."""
    settings = [(BASE, 0.0), (BASE | {"data": "code"}, 0.3), (BASE | {"data": "books"}, 0.0), SETTINGS[2]]
    frame = table(settings, num_runs=5).astype({"task": object})
    row = int(np.flatnonzero(frame.data == "code")[3])
    frame.loc[row, "task"] = bad
    path, out = losses(frame), tmp_path / "fits.json"
    main.main(["table", "compare", path, *AXES, "--run", "name", "--out", str(out)])
    text = capsys.readouterr().out
    verdicts = text.split("noises: gap over noise")[0]  # the table and the notes directly below it
    (of_level,) = [line for line in verdicts.splitlines() if line.startswith("  code ")]
    (of_factor,) = [line for line in verdicts.splitlines() if line.startswith("data ")]
    assert of_level.endswith("  cannot tell")
    assert of_factor.endswith("  cannot tell")
    stated = f"line {row + 2} of losses.csv, run {frame['name'][row]}: task is {bad}; losses are positive numbers"
    assert f"data=code: its setting has no usable losses: data=code: {stated}" in " ".join(verdicts.split())
    data = StudyFits.from_json(json.loads(out.read_text())).comparison("data")
    assert (data.verdict, {level.level: level.verdict for level in data.levels}) == (
        "cannot tell",
        {"books": "does not move", "code": "cannot tell"},
    )
    assert stated in data.levels[1].note


def test_a_factor_whose_only_setting_has_a_bad_loss_stands_in_the_page(losses, tmp_path):
    frame = table(SETTINGS, num_runs=5)
    frame.loc[int(np.flatnonzero(frame["size"] == "d32")[3]), "task"] = -1.0
    main.main(["table", "report", losses(frame), *AXES, "--run", "name", "--out", str(tmp_path / "page")])
    page = (tmp_path / "page" / "report.html").read_text()
    section = page[page.index('id="verdict-table"') : page.index("</table>", page.index('id="verdict-table"'))]
    assert "cannot tell" in section
    assert "its setting has no usable losses: size=d32: line " in section
    assert "task is -1.0; losses are positive numbers" in section
    assert "For size (its setting has no usable losses) this study cannot tell." in page


def test_a_level_that_loses_one_of_two_pairs_says_so(losses, capsys):
    adam = BASE | {"optimiser": "adam"}
    settings = [(BASE, 0.0), (BASE | {"data": "code"}, 0.3), (adam, 0.0), (adam | {"data": "code"}, 0.3)]
    frame = table(settings, num_runs=4)
    lost = (frame.data == "code") & (frame.optimiser == "adam")
    frame.loc[int(np.flatnonzero(lost)[0]), "task"] = 0.0
    main.main(["table", "compare", losses(frame), *AXES, "--run", "name"])
    sentences = " ".join(capsys.readouterr().out.split())
    assert "data=code: 1 of 2 pairs left out, without usable losses: " in sentences
    assert "task is 0.0; losses are positive numbers" in sentences


def test_report_of_a_table_without_a_study(losses, capsys, tmp_path):
    out = tmp_path / "page"
    main.main(["table", "report", losses(table(SETTINGS)), *AXES, "--run", "name", "--out", str(out)])
    page = (out / "report.html").read_text()
    assert "Data moves the line: code by +0." in page
    assert (out / "figures" / "line.png").exists()


def test_the_published_points_give_the_published_gaps(capsys):
    path = shared_path("reference/loss_to_loss/llms_on_the_line_fig1_points.csv")
    axes = ("--x", "fineweb_edu_val_loss", "--y", "hellaswag_test_loss")
    main.main(["table", "compare", str(path), *axes, "--factors", "series", "--base", "series=base"])
    text = capsys.readouterr().out
    sentences = " ".join(text.split())  # long lines are folded
    assert "pretraining_data -0.39" in sentences
    assert "does not tell runs apart" in sentences


def test_confounded_factors_are_named(losses, capsys):
    changed_levels = BASE | {"data": "code", "optimiser": "adam"}
    main.main(["table", "compare", losses(table([(BASE, 0.0), (changed_levels, 0.3)])), *AXES, "--run", "name"])
    text = capsys.readouterr().out
    sentences = " ".join(text.split())  # long lines are folded
    assert "data=code: confounded with optimiser: no two settings differ in data alone (wiki and code)" in sentences
    rows = [line for line in text.splitlines() if line.startswith(("data", "optimiser", "  "))]
    assert not any(line.endswith("moves") for line in rows)


def test_what_cannot_be_used_is_named_and_not_called_confounded(losses, capsys):
    frame = table(SETTINGS).astype({"task": object})
    frame.loc[3, "task"] = "diverged"  # a run of the base, so that no reference is left
    main.main(["table", "compare", losses(frame), *AXES, "--run", "name"])
    text = capsys.readouterr().out
    sentences = " ".join(text.split())  # long lines are folded
    assert "base: line 5 of losses.csv, run " in sentences
    assert ": task is diverged; losses are positive numbers" in sentences
    assert "data=code: the setting of wiki to compare it with has no usable losses" in sentences
    assert "confounded" not in text


def test_repetitions_on_one_line_are_no_noise(losses, capsys):
    frame = table([(BASE, 0.0), (BASE | {"data": "code"}, 0.5)], num_runs=1)
    wiggle = np.resize([0.002, -0.002], len(frame))  # the points differ, and their means do not
    repeated = [frame.assign(name=frame["name"] + str(k), task=frame["task"] + k * wiggle) for k in range(3)]
    main.main(["table", "compare", losses(pd.concat(repeated)), *AXES, "--run", "name"])
    text = capsys.readouterr().out
    sentences = " ".join(text.split())  # long lines are folded
    assert "the repetitions are identical: they show no noise" in sentences
    assert "cannot tell" in sentences


@pytest.mark.parametrize(
    "change", ["integer runs", "a column called loss", "dollar signs", "text and infinite losses", "mappings"]
)
def test_ordinary_tables_make_a_page(losses, tmp_path, change):
    frame = table(SETTINGS)
    axes, run = ["--x", "val", "--y", "task"], "name"
    match change:
        case "integer runs":
            frame["name"] = frame["name"].astype("category").cat.codes
        case "a column called loss":
            frame, axes = frame.rename(columns={"val": "loss"}).assign(eval_set=1), ["--x", "loss", "--y", "task"]
        case "dollar signs":
            frame["data"] = frame["data"].replace("code", r"a$\bad$b")
        case "mappings":
            frame["note"] = [{"lr": 0.1}] * len(frame)
        case "text and infinite losses":
            frame = frame.astype({"task": object})
            frame.loc[frame["size"] == "d32", "task"] = [
                float("inf"),
                "n/a",
                *frame.loc[frame["size"] == "d32", "task"][2:],
            ]
    path = losses(frame)
    if change == "mappings":
        path = path.replace(".csv", ".jsonl")
        frame.to_json(path, orient="records", lines=True)
    main.main(["table", "report", path, *axes, "--run", run, "--out", str(tmp_path)])
    assert "Data moves the line" in (tmp_path / "report.html").read_text()


def code(frame: pd.DataFrame) -> pd.Series:
    return frame["data"] == "code"


def with_falling_task(frame: pd.DataFrame, rows: pd.Series) -> pd.DataFrame:
    """Return the table with task losses of `rows` that fall as x rises, like those of an accuracy."""
    return frame.assign(task=frame["task"].where(~rows, 1 / (1 + frame["task"])))


def with_bent_task(frame: pd.DataFrame, rows: pd.Series) -> pd.DataFrame:
    """Return the table with task losses of `rows` that fall again above the middle of x. No line can follow them."""
    return frame.assign(task=frame["task"].where(~rows | (frame["val"] < 3.5), frame["task"] - (frame["val"] - 3.5)))


def on_one_grid(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with every run at the same x, like a table that was read at chosen losses."""
    return frame.assign(val=np.tile(np.geomspace(5.0, 2.5, 10), len(frame) // 10))


def logged_again(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with three steps of a run twice, as after a restart. The second losses are different."""
    stepped = frame.assign(step=np.tile(np.arange(10), len(frame) // 10))
    again = stepped[5:8].assign(task=stepped["task"][5:8] + 0.01)
    return pd.concat([stepped, again])


def in_bits(frame: pd.DataFrame, rows: pd.Series) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].where(~rows, frame[name] / np.log(2)) for name in ("val", "task")})


@pytest.mark.parametrize(
    ("change", "verdict", "note"),
    [
        (lambda t: t, "moves", ""),
        (lambda t: with_falling_task(t, t["val"] > 0), "cannot tell", "data=code: no line of wiki: y falls as x rises"),
        (lambda t: with_falling_task(t, code(t)), "moves", "data=code: y of this level falls as x rises"),
        (lambda t: with_falling_task(t, ~code(t)), "cannot tell", "data=code: no line of wiki: y falls as x rises"),
        (
            lambda t: in_bits(t, code(t)),
            "moves",
            "those of the reference throughout, as if in bits where that is in nats",
        ),
        (
            lambda t: in_bits(t, ~code(t)),
            "moves",
            "those of the reference throughout, as if in nats where that is in bits",
        ),
        (on_one_grid, "moves", ""),
        (lambda t: with_bent_task(t, ~code(t)), "moves", "off its own line; the interval does not include that"),
        (logged_again, "moves", "3 of 123 checkpoints (run and step) occur again with other losses"),
        (lambda t: pd.concat([t, t[:8]]), "moves", "8 of 128 checkpoints occur more than once and count each time"),
    ],
)
def test_a_note_names_what_makes_a_gap_doubtful(losses, capsys, change, verdict, note):
    main.main(
        ["table", "compare", losses(change(table(SETTINGS))), *AXES, "--run", "name", "--factors", "data", "size"]
    )
    text = capsys.readouterr().out
    sentences = " ".join(text.split())  # long lines are folded
    (row,) = [line for line in text.splitlines() if line.startswith("data ")]
    assert row.endswith(verdict)
    assert note in sentences
    assert note or not any(word in text for word in ("falls", "throughout", "occur", "own line"))


def test_a_column_that_changes_within_a_run_is_no_factor(losses, capsys):
    frame = table(SETTINGS)
    path = losses(frame.assign(step=frame.groupby("name").cumcount()))
    with pytest.raises(SystemExit) as stopped:
        main.main(["table", "compare", path, *AXES, "--run", "name", "--factors", "data", "step"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        f"lossline: --factors: step is not a property of a run: run {frame['name'][0]!r} has rows of step 0 and of 1; "
        "name columns that can be factors (data, size), or another column of runs with --run\n"
    )


def test_two_runs_of_one_name_are_refused(losses, capsys):
    frame = table(SETTINGS)
    frame.loc[frame.name == frame.name[frame.data == "code"].iloc[0], "name"] = frame.name[0]
    with pytest.raises(SystemExit) as stopped:
        main.main(["table", "compare", losses(frame), *AXES, "--run", "name"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        f"lossline: run {frame.name[0]!r} has rows of data wiki and of code: two runs have one name; name a column "
        "that tells runs apart with --run\n"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--base", "data"], "--base: 'data' is not FACTOR=LEVEL"),
        (["--base", "data=kode"], "--base: no run has data 'kode'; did you mean 'code'?; the table has wiki, code"),
        (["--base", "data=code", "size=d32"], "--base: no run has data=code and size=d32 together; leave one"),
        (["--base", "seed=1", "dat=wiki"], "'dat' is not a factor of this table; did you mean 'data'?"),
        (["--factors", "dta"], "the table has no column 'dta'; did you mean 'data'?"),
        (["--run", "nam"], "the table has no column 'nam'; did you mean 'name'?"),
        (["--factors"], "--factors: has no value; give at least one, or leave the flag out"),
        (["--factors", "data", "size", "data"], "factor 'data' is named twice; name it once"),
        (["--y", "val"], "--y: give it once, with all its values after it"),
        (["--merge-copies", "--no-merge-copies"], "--no-merge-copies: give it once"),
        (["--margin", "0"], "--margin: 0 noise floors are not a margin"),
        (["--margin", "inf"], "--margin: inf noise floors are not a margin"),
        (["--base", "data=wiki", "data=code"], "--base: data is given twice, as wiki and as code; keep one"),
        (["--unit", "bits_per_byte"], "leave --unit out"),
        (["--run", "context_length"], "run '128' has rows of data wiki and of code; "),
        (["--run", "context_length"], ", or another column of runs with --run"),
    ],
)
def test_mistakes_get_one_line(losses, capsys, flags, message):
    with pytest.raises(SystemExit) as stopped:
        main.main(["table", "compare", losses(table(SETTINGS)), *AXES, *flags])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
