"""A message without a test is found, and one with a test is not."""

import messages
import pytest
import typer

from permgraph.cli.inspecting import _axis
from permgraph.errors import OptionError
from permgraph.jobs.recipe import read_recipe

SOURCE = """
def f(x):
    if x:
        raise OptionError(
            f"first {x}"
        )
    raise shared.UsageError("second")
"""


def test_messages_that_no_test_raises_are_named(tmp_path):
    (tmp_path / "permgraph").mkdir()
    (tmp_path / "permgraph" / "a.py").write_text(SOURCE)
    assert messages.silent(["permgraph/a.py:5"], tmp_path) == ["permgraph/a.py:7: second"]
    assert messages.silent(["permgraph/a.py:6", "permgraph/a.py:7"], tmp_path) == []
    assert len(messages.silent([], tmp_path)) == 2


def test_the_place_of_a_message_is_noted(request, tmp_path):
    recorder = messages.Recorder()
    with pytest.MonkeyPatch.context() as patch:
        for kind in (messages.errors.PermgraphError, typer.BadParameter):
            patch.setattr(kind, "__init__", kind.__init__)  # put back afterwards
        recorder.start()
        with pytest.raises(OptionError):
            read_recipe(tmp_path / "x.ini")
        with pytest.raises(typer.BadParameter):
            _axis("weight")
    assert sorted(place.rpartition(":")[0] for place in recorder.places) == [
        "permgraph/cli/inspecting.py", "permgraph/jobs/recipe_fields.py",
    ]  # fmt: skip
    assert len(messages.silent(recorder.places)) == len(messages.silent([])) - 2
