"""Weights that are read when they are asked for, files written a tensor at a time, models built without weights."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_storage import SMALL
from torch import nn

from permgraph.checkpoints.lazy_state import LazyState, each_once, small_part
from permgraph.checkpoints.safetensors_writing import write_safetensors
from permgraph.errors import AdapterError, CheckpointError
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
