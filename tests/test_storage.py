"""What comes in as bfloat16, in shards and tied goes out so; --dtype and --max-shard-size change it."""

import json

import pytest
import torch
from commands import run
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from permgraph.checkpoints.sharding import Storage, bytes_of, dtype_of, write_weights
from permgraph.errors import CheckpointError, OptionError
from permgraph.models.loading import load

SMALL = {
    "vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "use_cache": False, "max_position_embeddings": 40,
}  # fmt: skip


def llama(folder, seed=0, dtype=torch.bfloat16, shard="1GB", tied=True):
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=tied))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def stored(folder):
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def layout(folder):
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    return {name: {*load_file(folder / name)} for name in files}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root = tmp_path_factory.mktemp("storage")
    llama(root / "a", 0, shard="20KB")
    llama(root / "b", 1)
    both = load_file(root / "b" / "model.safetensors")
    both["lm_head.weight"] = both["model.embed_tokens.weight"].clone()
    save_file(both, root / "b" / "model.safetensors", metadata={"format": "pt"})
    llama(root / "f32", 2, dtype=torch.float32)
    return root


@pytest.mark.parametrize("command", ["merge", "align"])
def test_dtype_shards_and_ties_are_kept(pair, tmp_path, command):
    run(command, pair / "a", pair / "b", "--out", tmp_path / "out")
    out = tmp_path / "out"
    assert {tensor.dtype for tensor in stored(out).values()} == {torch.bfloat16}
    assert layout(out) == layout(pair / "a")
    assert len(layout(out)) > 1
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in stored(out).values())
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_moving_alone_changes_no_bit(pair, tmp_path):
    run("align", pair / "a", pair / "b", "--out", tmp_path / "out")
    for name, tensor in stored(tmp_path / "out").items():
        before = load_file(pair / "b" / "model.safetensors")[name]
        assert sorted(tensor.float().flatten().tolist()) == sorted(before.float().flatten().tolist())


def test_a_merge_is_rounded_once(pair, tmp_path):
    run("merge", pair / "a", pair / "b", "--groups", "attention", "--out", tmp_path / "out")
    name = "model.layers.0.mlp.up_proj.weight"
    a, b = stored(pair / "a")[name].float(), stored(pair / "b")[name].float()
    assert torch.equal(stored(tmp_path / "out")[name], ((a + b) / 2).bfloat16())


ASKED = {
    "another dtype": (("--dtype", "float16"), torch.float16, 2),
    "one file": (("--max-shard-size", "1GB"), torch.bfloat16, 1),
    "files of a size": (("--max-shard-size", "10KB", "--dtype", "float32"), torch.float32, 9),
}


@pytest.mark.parametrize(("words", "dtype", "files"), ASKED.values(), ids=ASKED)
def test_dtype_and_size_of_files_can_be_asked_for(pair, tmp_path, words, dtype, files):
    run("merge", pair / "a", pair / "b", *words, "--groups", "attention", "--out", tmp_path / "out")
    assert {tensor.dtype for tensor in stored(tmp_path / "out").values()} == {dtype}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    assert len(layout(tmp_path / "out")) >= files if files > 1 else len(layout(tmp_path / "out")) == 1
    recipe = (tmp_path / "out" / "recipe.toml").read_text()
    assert all(f'"{word}"' in recipe for word in words[1::2])


def test_models_of_two_dtypes_are_written_as_the_first_and_it_is_said(pair, tmp_path):
    done = run("merge", pair / "a", pair / "f32", pair / "b", "--groups", "attention", "--out", tmp_path / "out")
    assert "f32 is stored as float32, and written as bfloat16; --dtype changes that" in done.stderr
    assert {tensor.dtype for tensor in stored(tmp_path / "out").values()} == {torch.bfloat16}


def test_dtypes_that_differ_within_a_model_are_kept(pair, tmp_path):
    state = stored(pair / "a")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text((pair / "a" / "config.json").read_text())
    norms = {name: tensor.float() if "norm" in name else tensor for name, tensor in state.items()}
    save_file(norms, tmp_path / "a" / "model.safetensors")
    run("merge", tmp_path / "a", pair / "b", "--groups", "attention", "--out", tmp_path / "out")
    assert {n: t.dtype for n, t in stored(tmp_path / "out").items()} == {n: t.dtype for n, t in norms.items()}


NUMBERS = {
    "int8": (torch.int8, "int8: model.layers.0.mlp.up_proj.weight"),
    "int64": (torch.int64, "int64"),
    "bool": (torch.bool, "bool"),
    "complex": (torch.complex64, "complex64"),
    "float8": (torch.float8_e4m3fn, "float8_e4m3fn"),
    "float8 of the other kind": (torch.float8_e5m2, "float8_e5m2"),
}


@pytest.mark.parametrize(("dtype", "message"), NUMBERS.values(), ids=NUMBERS)
def test_weights_that_are_no_plain_floats_are_refused_by_name(pair, tmp_path, dtype, message):
    name = "model.layers.0.mlp.up_proj.weight"
    state = load_file(pair / "b" / "model.safetensors")
    state[name] = state[name].float().to(dtype)
    (tmp_path / "config.json").write_text((pair / "b" / "config.json").read_text())
    if dtype.is_complex:
        torch.save(state, tmp_path / "pytorch_model.bin")
    else:
        save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"{message}.*quantized.*convert") as caught:
        load(str(tmp_path))
    assert name in str(caught.value)


def test_a_config_far_larger_than_its_weights_is_refused_before_memory_is_taken(pair, tmp_path):
    fields = json.loads((pair / "b" / "config.json").read_text()) | {"vocab_size": 150_000_000}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    (tmp_path / "model.safetensors").write_bytes((pair / "b" / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"describes a LlamaForCausalLM of [\d,]+ numbers, and the files hold"):
        load(str(tmp_path))


def test_values_that_a_dtype_cannot_hold_are_named(tmp_path):
    state = {"w": torch.tensor([1.0, 70_000.0]), "step": torch.tensor(70_000)}
    with pytest.raises(CheckpointError, match=r"w: holds 7e\+04, and the largest float16 is 6.55e\+04"):
        write_weights(tmp_path, state, Storage(default=torch.float16))
    write_weights(tmp_path, state, Storage(default=torch.bfloat16))
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert [file.get_tensor(name).dtype for name in ("w", "step")] == [torch.bfloat16, torch.int64]


SIZES = {"500": 500, "2KB": 2000, "1.5 gb": 1_500_000_000, "1GiB": 2**30, "3TB": 3 * 10**12}


@pytest.mark.parametrize(("text", "count"), SIZES.items())
def test_sizes_are_read(text, count):
    assert bytes_of(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "2 apples", "1e9", "nan"])
def test_what_is_no_size_or_dtype_is_refused(text, tmp_path):
    with pytest.raises(OptionError, match="a size is a number of bytes, KB"):
        bytes_of(text)
    with pytest.raises(OptionError, match="the dtype is one of float16"):
        dtype_of(text)
    words = ("merge", "a", "b", "--max-shard-size", text or "x", "--out", tmp_path / "o")
    assert "a size is a number" in run(*words, code=2).stderr
