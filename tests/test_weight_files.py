"""One file of weights: what it may hold, what is refused by name, and what happens while it is read."""

import argparse
import hashlib
import json
import os
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from permgraph.checkpoints.reading import open_checkpoint
from permgraph.checkpoints.weight_files import read_weights
from permgraph.errors import CheckpointError

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


def test_every_dtype_and_shape_is_read_as_safetensors_reads_it(tmp_path):
    path = tmp_path / "w.safetensors"
    state = {str(dtype): torch.arange(-3, 9).reshape(3, 4).to(dtype) for dtype in DTYPES}
    state |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "pt": torch.ones(2), "\u6f22": torch.ones(1)}
    save_file(state, path, metadata={"format": "pt", "tied": "scalar", "author": "nobody"})
    file, theirs = read_weights(path), load_file(path)
    assert set(file.tensors) == {*state, "tied"}
    assert file.tensors["tied"].read() == 2.5
    for name, tensor in theirs.items():
        stored = file.tensors[name]
        mine = stored.read()
        assert (stored.shape, stored.dtype) == (tuple(tensor.shape), tensor.dtype) == (tuple(mine.shape), mine.dtype)
        assert mine.untyped_storage().tolist() == tensor.clone().untyped_storage().tolist()


def raw(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(**changes):
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


HEADERS = {
    "nothing": (b"", "no header"),
    "a length alone": (struct.pack("<Q", 8), "would take 8 bytes"),
    "a header longer than the file": (raw(one(), length=10**6), "would take 1000000 bytes"),
    "a header longer than any": (raw(one(), length=2**63), "would take"),
    "no JSON": (raw(b"{nope"), "not JSON"),
    "no UTF-8": (raw(b"\xff\xfe{}"), "not JSON"),
    "a list": (raw([]), "is a JSON list"),
    "nested too deep": (raw(b'{"w":' + b"[" * 20_000 + b"]" * 20_000 + b"}"), "nested too deep"),
    "a name twice": (raw(b'{"w":' + json.dumps(one()["w"]).encode() + b',"w":1}', bytes(8)), "a name twice"),
    "a type that nobody knows": (raw(one(dtype="F4"), bytes(8)), "'w' is stored as F4.*Convert"),
    "a type that is a number": (raw(one(dtype=4), bytes(8)), "says of tensor 'w'"),
    "a size that is no number": (raw(one(shape=["2"]), bytes(8)), "says of tensor 'w'"),
    "a size below zero": (raw(one(shape=[-2]), bytes(8)), "says of tensor 'w'"),
    "a size past any": (raw(one(shape=[0, 2**63], data_offsets=[0, 0])), "says of tensor 'w'"),
    "a size that is true": (raw(one(shape=[True], data_offsets=[0, 4]), bytes(4)), "says of tensor 'w'"),
    "offsets of another shape": (raw(one(shape=[3]), bytes(8)), "says of tensor 'w'"),
    "offsets turned around": (raw(one(data_offsets=[8, 0]), bytes(8)), "says of tensor 'w'"),
    "offsets past the end": (raw(one(), bytes(4)), r"its tensors take \d+ bytes"),
    "bytes that belong to nobody": (raw(one(), bytes(12)), r"its tensors take \d+ bytes"),
    "a gap": (raw(one(data_offsets=[4, 12]), bytes(12)), "begin at 4"),
    "an overlap": (raw(one() | {"v": one(data_offsets=[4, 12])["w"]}, bytes(12)), "begin at 4"),
    "no offsets": (raw({"w": {"dtype": "F32", "shape": []}}), "says of tensor 'w'"),
    "an entry that is a number": (raw({"w": 3}), "says of tensor 'w'"),
}


@pytest.mark.parametrize(("content", "message"), HEADERS.values(), ids=HEADERS)
def test_a_header_that_lies_is_refused(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)


STATE = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}
OTHER = {"a.weight": torch.full((2, 3), 7.0), "b": torch.zeros(1)}
HELD = {
    "a state dict": (STATE, ()),
    "under model": ({"model": STATE, "step": 3}, ("step",)),
    "under state_dict": ({"state_dict": STATE, "epoch": 1, "optimizer": {"state": {0: {"m": torch.ones(1)}}}},
                         ("epoch", "optimizer")),
    "under model_state_dict": ({"model_state_dict": STATE, "best": torch.tensor(0.1)}, ("best",)),
    "nested": ({"model": {"state_dict": STATE, "arch": "x"}}, ("arch",)),
    "under a name of its own": ({"generator": STATE, "step": 3}, ("step",)),
    "beside an average": ({"ema": OTHER, "model": STATE}, ("ema",)),
    "beside objects": ({"model": STATE, "args": argparse.Namespace(lr=1), "acc": np.float64(0.5)}, ("args", "acc")),
    "with something else in it": (STATE | {"_extra_state": b"\0", "config": {"a": 1}}, ("_extra_state", "config")),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin"])
@pytest.mark.parametrize(("held", "left_out"), HELD.values(), ids=HELD)
def test_the_weights_in_a_training_checkpoint_are_found(tmp_path, held, left_out, suffix):
    torch.save(held, tmp_path / f"x{suffix}")
    file = read_weights(tmp_path / f"x{suffix}")
    assert {name: stored.read().tolist() for name, stored in file.tensors.items()} == {
        name: tensor.tolist() for name, tensor in STATE.items()
    }
    assert set(file.left_out) == set(left_out)


class Evil:
    def __init__(self, what):
        self.what = what

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("known", [False, True])
def test_no_code_in_a_training_checkpoint_runs(tmp_path, zipped, known):
    ran = tmp_path / "ran"
    call = (os.mkdir, (str(ran),)) if known else (exec, (f"open({str(ran)!r}, 'w')",))
    torch.save({"model": STATE, "hook": Evil(call)}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    if known or not zipped:
        with pytest.raises(CheckpointError, match="code") as caught:
            read_weights(tmp_path / "x.pt")
        assert "weights_only" not in str(caught.value)
    else:
        assert set(read_weights(tmp_path / "x.pt").tensors) == set(STATE)
    assert not ran.exists()


REFUSED = {
    "a whole model": (lambda: torch.nn.Linear(2, 2), "a whole pickled model"),
    "a list": (lambda: [1, 2], "holds a list"),
    "no tensors": (lambda: {"step": 3}, "no tensors: step"),
    "two models": (
        lambda: {"generator": STATE, "discriminator": OTHER}, "several state dicts: generator, discriminator"
    ),
    "a sparse tensor": (lambda: {"w": torch.eye(3).to_sparse()}, "'w' is sparse"),
    "a compressed tensor": (lambda: {"w": torch.eye(3).to_sparse_csr()}, "'w' is sparse"),
    "a quantized tensor": (
        lambda: {"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, "'w' is sparse"
    ),
    "a tensor without values": (lambda: {"w": torch.ones(2, device="meta")}, "'w' is sparse"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.filterwarnings("ignore:.*quantiz.*")
@pytest.mark.parametrize(("held", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_state_dict_is_refused(tmp_path, held, message):
    torch.save(held(), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path / "x.pt")


def test_a_torchscript_program_is_named(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "x.pt"))
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_weights(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_pickle_is_an_error_of_ours(tmp_path, zipped):
    path = tmp_path / "x.bin"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    whole, draw = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in draw.integers(0, len(damaged), draw.integers(1, 6)):
            damaged[place] = draw.integers(256)
        path.write_bytes(damaged[: draw.integers(1, len(damaged)) if draw.random() < 0.2 else None])
        try:
            for stored in read_weights(path).tensors.values():
                stored.read()
        except CheckpointError:
            continue


FORMATS = {"x.gguf": "GGUF.*converted from", "x.onnx": "ONNX", "x.h5": "from_tf", "x.msgpack": "from_flax"}


@pytest.mark.parametrize(("name", "message"), FORMATS.items())
def test_other_formats_are_named(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"GGUF")
    for place in (tmp_path / name, tmp_path):
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(place)


def test_an_adapter_is_named_with_its_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    with pytest.raises(CheckpointError, match=r"PEFT adapter for owner/base.*merge_and_unload"):
        open_checkpoint(tmp_path)


def test_a_folder_with_one_file_of_another_name_says_how_to_give_it(tmp_path):
    torch.save(STATE, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"has last\.ckpt, and none is model\.safetensors.*--model"):
        open_checkpoint(tmp_path)
    assert set(open_checkpoint(tmp_path / "last.ckpt")) == set(STATE)


def shrink(path):
    os.truncate(path, path.stat().st_size - 30)


def write_over(path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size - 24)
        file.write(bytes(range(24)))
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("spoil", [shrink, write_over])
def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path, spoil):
    path = tmp_path / "model.safetensors"
    save_file(STATE, path)
    checkpoint = open_checkpoint(tmp_path)
    spoil(path)
    with pytest.raises(CheckpointError, match="was changed while it was read"):
        checkpoint.hashes()
    if spoil is shrink:
        with pytest.raises(CheckpointError, match="was changed while it was read"):
            [checkpoint[name] for name in checkpoint]


def test_what_was_opened_is_what_is_read_and_hashed(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(STATE, path)
    checkpoint = open_checkpoint(tmp_path)
    (tmp_path / "old").write_bytes(path.read_bytes())
    save_file(OTHER, tmp_path / "new")
    os.replace(tmp_path / "new", path)
    assert torch.equal(checkpoint["a.weight"], STATE["a.weight"])
    expected = hashlib.sha256((tmp_path / "old").read_bytes()).hexdigest()
    assert checkpoint.hashes() == {path.name: expected}


def test_what_was_read_does_not_change_with_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(STATE, path)
    tensor = open_checkpoint(tmp_path)["a.weight"]
    write_over(path)
    assert torch.equal(tensor, STATE["a.weight"])
