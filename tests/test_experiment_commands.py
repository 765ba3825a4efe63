"""The reference experiment as commands: what is trained, measured, shipped and written, in which order."""

import itertools
import json

import pytest

from benchmarks.speech_music import everything, page, rows, run, train
from benchmarks.speech_music.packages import PACKAGES, PROBES, names, of
from benchmarks.speech_music.trained import MANIFEST


def test_what_ships_is_trained_on_what_may_ship() -> None:
    assert all(package.ships for domain in ("speech", "music", "bank") for package in of("shipped", domain))
    assert set(names("shipped")) <= set(names("full")) <= {package.name for package in PACKAGES}
    assert set(PROBES) <= set(names("shipped"))


def test_the_manifest_is_understood_by_the_programs_it_calls() -> None:
    manifest = json.loads(MANIFEST.read_text())
    for one in itertools.chain.from_iterable(iteration["encoders"] for iteration in manifest["iterations"]):
        assert train.options_of([one["domain"], "--run", one["run"], *one["options"]]).steps > 0
    for pair in manifest["pairs"]:
        options = run.parser().parse_args(
            ["--name", pair["name"], "--a", pair["a"], "--b", pair["b"], *pair["options"]]
        )
        assert options.name == pair["name"]


def test_one_command_trains_in_order_ships_what_the_manifest_says_and_notes_its_time(tmp_path, monkeypatch) -> None:
    manifest = json.loads(MANIFEST.read_text())
    called = []

    def together(commands: list[list[str]]) -> None:
        for _, _, module, *options in commands:
            called.append((module.rsplit(".")[-1], *options))
            if "--run" in options:
                folder = tmp_path / "runs" / options[options.index("--run") + 1] / "encoder"
                folder.mkdir(parents=True)
                (folder / "model.safetensors").write_text(folder.parent.name)

    monkeypatch.setattr(everything, "together", together)
    monkeypatch.setattr(everything, "DATA", tmp_path)
    monkeypatch.setattr(everything, "ASSETS", tmp_path / "assets")
    monkeypatch.setattr(everything, "TIMES", tmp_path / "times.json")
    monkeypatch.setattr("sys.argv", ["everything", "--processes", "1"])
    everything.main()
    stages = [module for module, *_ in called]
    assert stages[:2] == ["fetch", "prepare"]
    assert stages[-2:] == ["summary", "page"]
    first = [run["run"] for run in manifest["iterations"][0]["encoders"]]
    assert stages.index("second_teacher") == stages.index("train") + len(first)
    merged, layered = (
        {one[one.index("--name") + 1] for one in called if one[0] == stage} for stage in ("run", "layers")
    )
    assert merged == {pair["name"] for pair in manifest["pairs"]}
    assert layered == {pair["name"] for pair in manifest["pairs"] if pair.get("layers")}
    assert layered
    assert stages.count("train") == sum(len(iteration["encoders"]) for iteration in manifest["iterations"])
    for domain, run_name in manifest["ships"].items():
        assert (tmp_path / "assets" / domain / "model.safetensors").read_text() == run_name
    times = json.loads((tmp_path / "times.json").read_text())
    assert list(times["fetch"]["minutes"]) == ["fetch", "prepare", "train", "merge"]


def test_cells_are_named_once_and_what_decides_comes_first() -> None:
    found = rows.cells()
    assert len({cell.key for cell in found}) == len(found)
    families = [cell.row.family for cell in found]
    assert families == sorted(families, key=rows.FIRST.index)


def test_processes_that_share_the_work_may_write_one_file_at_once(tmp_path, monkeypatch) -> None:
    partial = []
    monkeypatch.setattr("pathlib.Path.replace", lambda self, _target: partial.append(self.name))
    for process in (1, 2):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        run.write(tmp_path / "about.json", {})
    assert len(set(partial)) == 2


def test_a_row_is_taken_by_one_process_and_left_to_another_when_that_ends(tmp_path) -> None:
    options = run.parser().parse_args(["--rows", "linear", "proposed", "--weights", "0.5", "0.9"])
    first, second = (run.outstanding(options, tmp_path) for _ in range(2))
    assert next(first).row.name == "linear"
    assert [(cell.row.name, cell.weight) for cell in second] == [("proposed", 0.5), ("proposed", 0.9)]
    first.close()
    (tmp_path / "linear@0.5#0.json").write_text("{}")
    assert next(run.outstanding(options, tmp_path)).key == "linear@0.9#0"


def test_the_page_is_that_of_the_results() -> None:
    if not page.RESULT.exists():
        pytest.skip("no results yet")
    assert page.PAGE.read_text() == page.page(*page.read())
