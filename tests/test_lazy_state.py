"""Weights that are read when they are asked for, files written a tensor at a time, models built without weights."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_storage import SMALL
from torch import nn

import permgraph as pg
from permgraph.checkpoints import lazy_state
from permgraph.checkpoints.lazy_state import LazyState, each_once, slabs_of, small_part
from permgraph.checkpoints.safetensors_writing import write_safetensors
from permgraph.errors import AdapterError, CheckpointError
from permgraph.matching.kinds.ascent import Ascent
from permgraph.models.transformers_models import hollow_model


def test_matrices_of_a_proof_are_not_read():
    state = {"matrix": torch.ones(2, 2), "vector": torch.ones(2), "table": torch.ones(2, 2, dtype=torch.long)}
    like = {name: tensor.to("meta") for name, tensor in state.items()}
    part = small_part(LazyState(like, state.__getitem__))
    assert {name: tensor.is_meta for name, tensor in part.items()} == {"matrix": True, "vector": False, "table": False}
    assert small_part(state) is state


def test_a_lazy_state_is_a_mapping_that_keeps_nothing():
    made = []
    like = {"x": torch.empty(3, device="meta")}
    state = LazyState(like | {"y": like["x"]}, lambda name: made.append(name) or torch.arange(3.0))
    assert (len(state), list(state), "x" in state, "z" in state) == (2, ["x", "y"], True, False)
    assert state["x"] is not state["x"]
    assert torch.equal(state.rows("x", 1, 3), torch.tensor([1.0, 2.0]))
    with pytest.raises(KeyError):
        state["z"]
    assert torch.equal(each_once(state, lambda name: state[name] * 2)["y"], 2 * torch.arange(3.0))
    assert made[-1] == "x"  # the first of two names of one tensor


def test_what_cannot_be_made_by_rows_is_made_once(monkeypatch):
    monkeypatch.setattr(lazy_state, "AT_ONCE", 4)
    like = {name: torch.empty(6, 2, device="meta") for name in ("rows", "whole")}
    made = []

    def part(name, start, stop):
        made.append(name)
        return torch.arange(12.0).reshape(6, 2)[start:stop]

    state = LazyState(like, lambda name: part(name, 0, 6), part, lambda name: name == "rows")
    for again in (state, state.replaced({}), each_once(state, state.make, part, state.alone)):
        made.clear()
        assert all(torch.equal(torch.cat([*slabs_of(again, name)]), part(name, 0, 6)) for name in like)
        assert (made.count("rows"), made.count("whole")) == (3 + 1, 1 + 1)


def test_steps_on_demand_say_what_they_gain():
    """A rotation of a stream between layers that permute: the value is kept up without another pass."""
    model = nn.Sequential(nn.Linear(5, 6, bias=False), nn.Linear(6, 7, bias=False), nn.ReLU(), nn.Linear(7, 4))
    spec = pg.derive(model.eval(), (torch.randn(2, 5),), kinds="all")
    planted = spec.apply(spec.sample(0), model.state_dict())
    like = {name: tensor.to("meta") for name, tensor in planted.items()}
    ascent = Ascent(spec, spec.groups, model.state_dict(), LazyState(like, planted.__getitem__))
    ascent.value()
    for _ in range(2):
        ascent.solve_all(ascent.families)
        kept, ascent.placed.known_value = ascent.placed.known_value, None
        assert kept is not None
        assert kept == pytest.approx(ascent.value(), rel=1e-5)


def test_files_written_are_those_of_safetensors(tmp_path):
    state = {
        "b": torch.randn(3, 5).T, "a": torch.randn(2, dtype=torch.float64), "c": torch.ones(3, dtype=torch.bool),
        "ö": torch.randn(4).bfloat16(), "e": torch.empty(0, 3), "s": torch.tensor(2),
    }  # fmt: skip
    known = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}
    parts = {name: tensor.split(1) if tensor.dim() else [tensor] for name, tensor in state.items()}
    write_safetensors(tmp_path / "x.safetensors", known, parts.__getitem__, {"also": "a"})
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "also": "a"}
    read = load_file(tmp_path / "x.safetensors")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in state.items())
    with pytest.raises(CheckpointError, match="which safetensors cannot hold"):
        write_safetensors(tmp_path / "y.safetensors", {"x": ((), torch.complex128)}, lambda name: [], {})


def test_a_hollow_model_has_its_buffers_and_no_weights():
    from transformers import LlamaConfig, LlamaForCausalLM

    model = hollow_model(LlamaForCausalLM, LlamaConfig(**SMALL))
    assert all(parameter.is_meta for parameter in model.parameters())
    whole = LlamaForCausalLM(LlamaConfig(**SMALL))
    for (name, buffer), (other, wanted) in zip(model.named_buffers(), whole.named_buffers(), strict=True):
        assert name == other
        assert torch.equal(buffer, wanted)
    assert not nn.Linear(2, 2).weight.is_meta  # the hook is gone
    config = LlamaConfig(**SMALL)
    config.vocab_size = -1
    with pytest.raises(AdapterError, match=r"cannot be built from config\.json"):
        hollow_model(LlamaForCausalLM, config)
