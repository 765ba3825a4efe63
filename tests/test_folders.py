"""Output folders: what is never touched, and what is replaced."""

from pathlib import Path

import pytest
from output_folders import WHOLE, content, names, ours, written

from permgraph.checkpoints.folders import require_free, require_space
from permgraph.errors import CheckpointError


@pytest.fixture
def inputs(tmp_path):
    """A model whose weights are a link to elsewhere, and folders that permgraph wrote around it."""
    model = written(tmp_path / "models" / "a", "precious")
    written(tmp_path / "store", "precious")
    (model / "linked").symlink_to(tmp_path / "store" / "config.json")
    (tmp_path / "alias").symlink_to(model)
    return tmp_path


OVERLAPS = {
    "is": ("models/a", "is the input"),
    "is, by another way": ("models/../models/a/", "is the input"),
    "is, by a link": ("alias", "is the input"),
    "holds": ("models", "holds the input"),
    "lies in": ("models/a/deep/out", "lies in the input"),
    "lies in, by a link": ("alias/out", "lies in the input"),
    "holds what a link leads to": ("store", r"holds the input .*by its link to .*config\.json"),
    "beside": ("models/b", None),
    "of a longer name": ("models/a2", None),
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("out", "message"), OVERLAPS.values(), ids=OVERLAPS)
def test_an_output_shares_no_place_with_an_input(inputs, out, message, force):
    given = [inputs / "models" / "a", "owner/name-on-a-hub"]
    if message is None:
        assert content(written(inputs / out, inputs=given, force=force)) == "new"
        return
    for check in (require_free, written):
        with pytest.raises(CheckpointError, match=message):
            check(inputs / out, inputs=given, force=force)
    assert content(inputs / "models" / "a") == content(inputs / "store") == "precious"


def test_a_recipe_is_an_input_too(tmp_path):
    recipe = written(tmp_path / "out") / "recipe.toml"
    recipe.touch()
    with pytest.raises(CheckpointError, match="holds the input"):
        require_free(tmp_path / "out", force=True, inputs=[recipe])
    require_free(tmp_path / "out2", inputs=[recipe])


def foreign(folder):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "thesis.tex").write_text("years of work")


def with_more(folder):
    ours(folder)
    (folder / "thesis.tex").write_text("years of work")


def with_a_folder_more(folder):
    ours(folder)
    (folder / "deep").mkdir()


def with_a_link_for_a_folder(folder):
    ours(folder)
    (folder / "weights" / "w").unlink()
    (folder / "weights").rmdir()
    (folder / "weights").symlink_to(folder.parent)


def without_a_list(folder):
    ours(folder)
    (folder / "permgraph.json").write_text("{}")


def with_a_broken_record(folder):
    ours(folder)
    (folder / "permgraph.json").write_text("{")


REPLACED = {
    "what permgraph wrote": (ours, None),
    "another's checkpoint": (foreign, r"has no permgraph\.json"),
    "a file more": (with_more, r"did not write there \(thesis\.tex\)"),
    "a folder more": (with_a_folder_more, r"\(deep\)"),
    "a link for a folder": (with_a_link_for_a_folder, r"\(weights\)"),
    "no list of files": (without_a_list, "no list of files"),
    "a broken record": (with_a_broken_record, "cannot be read"),
}


@pytest.mark.parametrize(("make", "message"), REPLACED.values(), ids=REPLACED)
def test_force_replaces_what_permgraph_wrote_and_nothing_else(tmp_path, make, message):
    make(tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match=r"is not empty\. .*--force"):
        require_free(tmp_path / "out")
    if message is None:
        assert content(written(tmp_path / "out", force=True)) == "new"
    else:
        for check in (require_free, written):
            with pytest.raises(CheckpointError, match=message):
                check(tmp_path / "out", force=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_force_keeps_the_working_directory_mounts_and_files(tmp_path, monkeypatch):
    ours(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out" / "weights")
    with pytest.raises(CheckpointError, match="working directory"):
        require_free(tmp_path / "out", force=True)
    with pytest.raises(CheckpointError, match="is a file"):
        require_free(tmp_path / "out" / "config.json", force=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "out")
    with pytest.raises(CheckpointError, match="is a mount"):
        require_free(tmp_path / "out", force=True)


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path):
    (tmp_path / "out").mkdir()
    before = (tmp_path / "out").stat().st_ino
    written(tmp_path / "out")
    assert (tmp_path / "out").stat().st_ino == before
    assert names(tmp_path / "out") == WHOLE


ODD = {
    "a long name": ("n" * 245, None),
    "a name that is too long": ("n" * 300, "cannot be written"),
    "a loop of links": ("loop", "cannot be written"),
    "a NUL": ("a\0b", "cannot be written"),
}


@pytest.mark.parametrize(("name", "message"), ODD.values(), ids=ODD)
def test_odd_names_are_written_or_refused_before_the_work(tmp_path, name, message):
    (tmp_path / "loop").symlink_to("loop")
    if message is None:
        assert names(written(tmp_path / name)) == WHOLE
    else:
        with pytest.raises(CheckpointError, match=message):
            require_free(tmp_path / name)


def test_a_place_without_space_is_refused_before_the_work(tmp_path):
    require_space(tmp_path / "deep" / "out", 1000)
    with pytest.raises(CheckpointError, match=r"about 1,000,000,000.0 GB are to be written, and .* GB free"):
        require_space(tmp_path / "deep" / "out", 10**18)
