"""Lines on stderr say which process speaks, where there are several."""

import pytest

from lossline_jax import console


@pytest.fixture(autouse=True)
def _alone_again():
    yield
    console.set_process(0, 1)


def test_a_process_that_is_alone_speaks_plainly(capsys):
    console.say("one\ntwo")
    console.warn("three")
    assert capsys.readouterr() == ("", "one\ntwo\nthree\n")


def test_of_several_the_first_speaks_and_the_others_only_of_trouble(capsys):
    console.set_process(0, 4)
    console.say("news")
    console.set_process(1, 4)
    console.say("news")
    console.warn("trouble\nmore of it")
    assert capsys.readouterr() == ("", "[p0/4] news\n[p1/4] trouble\n[p1/4] more of it\n")
