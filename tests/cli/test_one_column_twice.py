"""One column that is given for two quantities of a fit is refused with the flags and the column."""

import pytest

from lossline_jax.errors import ArgumentError
from lossline_jax.fit import fit_laws
from lossline_jax.losses.table import read_losses
from tests.cli.test_main import run_cli


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"r{k},{'ab'[k % 2]},{10**k},{20**k},{6 * 200**k},{4 - k / 5},{3 - k / 9}" for k in range(1, 9)]
    path.write_text("\n".join(("run_id,data,N,D,train_flops,loss,task", *rows)))
    return str(path)


@pytest.mark.parametrize(
    ("words", "both"),
    [
        ("fit T --law chinchilla --input N=N D=N --y loss", "--input: N and D are both column 'N'"),
        ("fit T --law chinchilla --input N=D --y loss", "--input: N and D are both column 'D'"),
        ("fit T --law chinchilla --y loss N", "--y and input N are both column 'N'"),
        ("fit T --x loss --y task --e-x law --params N --tokens N", "--params and --tokens are both column 'N'"),
        ("speedup T --y loss --factors data --params N --tokens N", "--params and --tokens are both column 'N'"),
        ("speedup T --y loss --factors data --compute loss", "--y and --compute are both column 'loss'"),
        ("speedup T --y train_flops --factors data", "--y and --compute are both column 'train_flops'"),
        ("predict T --y loss --params N --tokens N --at-flops 1e9", "--params and --tokens are both column 'N'"),
        ("predict T --y loss --x D --params N --tokens D --at-x 3", "--x and --tokens are both column 'D'"),
        ("backtest T --y N --params N --tokens D", "--y and --params are both column 'N'"),
        ("backtest T --y loss --params N --tokens D --flops D", "--tokens and --flops are both column 'D'"),
    ],
)
def test_the_flags_and_the_column_are_named(capsys, table, words, both):
    code, out, err = run_cli(capsys, "table", *words.replace("T", table, 1).split())
    assert (code, out) == (2, "")
    assert err == f"lossline: {both}; name another column for one of them\n"


def test_python_names_the_argument(table):
    with pytest.raises(ArgumentError, match="^inputs: N and D are both column 'N'; name another column"):
        fit_laws(read_losses(table), "chinchilla", {"N": "N", "D": "N"}, "loss")


def test_a_column_of_parameters_is_named_once(capsys, table):
    words = ("--y", "loss", "--params", "N", "N", "--tokens", "D", "--at-flops", "1e9")
    code, _, err = run_cli(capsys, "table", "predict", table, *words)
    assert (code, err) == (2, "lossline: column of parameters 'N' is named twice; name it once\n")
