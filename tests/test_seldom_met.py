"""Errors that are seldom met: each is raised here, where no other test of the same process raises it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from commands import require_error, run
from folders import bert
from pairs import mlp, vectors
from torch import nn

import permgraph as pg
from permgraph.checkpoints.open_file import OpenFile
from permgraph.comparing.models import Models
from permgraph.errors import AdapterError, CalibrationError, CheckpointError, OptionError
from permgraph.jobs.matching import Matching
from permgraph.jobs.session import Session
from permgraph.judging.op_database import database
from permgraph.matching.match import Task
from permgraph.models.loading import _example_inputs


def test_a_file_whose_name_leads_in_a_circle_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read: .* Check its name and rights"):
        OpenFile(tmp_path / "config.json")


def test_classes_that_are_no_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": [3]}')
    with pytest.raises(CheckpointError, match="`architectures` is not a list of class names"):
        pg.load(tmp_path)


def test_data_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    matching = Matching(data=tmp_path)
    matching.require_unchanged()
    (tmp_path / "late.txt").write_text("one more")
    with pytest.raises(CalibrationError, match=r"late\.txt: was changed while the data was read"):
        matching.require_unchanged()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no device that is always full")
def test_a_result_that_stdout_does_not_take_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(CheckpointError, match="stdout leads to cannot be written: No space"):
            Session().say("a result")
        sys.stdout.close()
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):
            full.close()


def test_a_matcher_that_asks_for_data_without_any_is_refused() -> None:
    a, b = mlp(), mlp()
    example = (vectors()[0],), {}
    task = Task(Models.of((a, b)), pg.derive(a, *example), (), example)
    with pytest.raises(CalibrationError, match="matching by activations needs data"):
        _ = task.data


def test_sizes_that_no_input_can_have_are_named() -> None:
    def fails(model: nn.Module) -> Any:
        raise ZeroDivisionError("division by zero")

    with pytest.raises(AdapterError, match=r"no example inputs of Linear can be made: .*zero.*Correct the sizes"):
        _example_inputs(SimpleNamespace(example_inputs=fails), nn.Linear(2, 2))  # type: ignore[arg-type]


def test_the_database_of_operators_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.testing._internal.common_methods_invocations", None)
    with pytest.raises(OptionError, match=r"needs the package .*pip install 'permgraph\[dev\]'"):
        database()


def test_models_with_other_numbers_of_tokens_need_their_tokenizers(tmp_path: Path) -> None:
    a, b = bert(tmp_path / "a"), bert(tmp_path / "b", vocab_size=60)
    (b / "vocab.txt").unlink()
    told = run("merge", a, b, "--out", tmp_path / "out", code=1)
    require_error(told, "vocabularies differ: .* 50 rows .* 60.*has no tokenizer.*resize_token_embeddings")
    assert not (tmp_path / "out").exists()


def test_two_names_for_one_weight_are_refused_when_weights_are_read_as_needed(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    a, b = bert(tmp_path / "a"), bert(tmp_path / "b", seed=1)
    state = load_file(b / "model.safetensors")
    name = next(iter(state))
    save_file(state | {f"_orig_mod.{name}": state[name].clone()}, b / "model.safetensors", {"format": "pt"})
    told = run("merge", a, b, "--max-memory", "1GB", "--out", tmp_path / "out", code=1)
    require_error(told, f"are both names of '{name}'")


class Shifted(nn.Module):
    """Units that are columns 0 to 3 of one row of a weight, and columns 2 to 5 of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.rows = nn.Parameter(torch.randn(2, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        units = self.first(x).relu()
        both = nn.functional.linear(units, self.rows[:1, :4]), nn.functional.linear(units, self.rows[1:, 2:])
        return torch.stack(both)


def test_units_whose_removal_would_leave_holes_are_refused() -> None:
    model = Shifted().eval()
    spec = pg.derive(model, (torch.randn(3, 5),))
    group = spec.groups[0]
    with pytest.raises(pg.SpecMismatchError, match="rows would have holes"):
        spec.remove(dict(model.state_dict()), group.name, [0])


def test_factors_of_a_weight_whose_axes_move_jointly_are_refused() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv1d(3, 8, 1), nn.ReLU(), nn.Conv1d(8, 8, 1, groups=2), nn.ReLU(), nn.Conv1d(8, 2, 1))

    torch.manual_seed(0)
    aligned = pg.align(make().eval(), make().eval(), args=(torch.randn(2, 3, 4),))
    with pytest.raises(pg.SpecMismatchError, match="depends on the place on its other dims"):
        aligned.apply({"2.lora_A.weight": torch.randn(2, 4)})
