import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from permgraph.checkpoints.json_files import read_json
from permgraph.checkpoints.reading import file_sha256, input_hashes, open_checkpoint, require_finite
from permgraph.checkpoints.sharding import Storage
from permgraph.checkpoints.weight_files import read_weights
from permgraph.checkpoints.writing import save_checkpoint, write_merged
from permgraph.errors import CheckpointError


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"layer.{i}.weight": torch.randn(4, 3 + i, generator=generator) for i in range(3)}


def write_shards(folder, suffix):
    state = weights()
    names = {key: f"part-{i}{suffix}" for i, key in enumerate(state)}
    for key, name in names.items():
        save = save_file if suffix == ".safetensors" else torch.save
        save({key: state[key]}, folder / name)
    stem = "model.safetensors" if suffix == ".safetensors" else "pytorch_model.bin"
    (folder / f"{stem}.index.json").write_text(json.dumps({"weight_map": names}))


def write_numbered(folder, numbers):
    for number, (key, tensor) in zip(numbers, weights().items(), strict=False):
        save_file({key: tensor}, folder / f"model-{number:05}-of-00003.safetensors")


WRITERS = {
    "safetensors": lambda folder: save_file(weights(), folder / "model.safetensors"),
    "pickle": lambda folder: torch.save(weights(), folder / "pytorch_model.bin"),
    "pickle unzipped": lambda folder: torch.save(
        weights(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False
    ),
    "safetensors shards": lambda folder: write_shards(folder, ".safetensors"),
    "pickle shards": lambda folder: write_shards(folder, ".bin"),
    "shards without an index": lambda folder: write_numbered(folder, range(1, 4)),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_format_gives_names_shapes_dtypes_and_values(tmp_path, write):
    write(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert list(checkpoint) == list(weights())
    assert len(checkpoint) == 3
    for name, tensor in weights().items():
        assert checkpoint.info[name].shape == tuple(tensor.shape)
        assert checkpoint.info[name].dtype == torch.float32
        assert torch.equal(checkpoint[name], tensor)
    assert all(path.parent == tmp_path for path in checkpoint.files)


def test_safetensors_win_over_a_pickle_beside_them(tmp_path):
    save_file(weights(), tmp_path / "model.safetensors")
    torch.save({"other": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    assert list(open_checkpoint(tmp_path)) == list(weights())


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path, zipped):
    ran = tmp_path / "ran"
    state = {"weight": torch.zeros(1), "evil": Malicious(ran)}
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*code.*safetensors"):
        open_checkpoint(tmp_path)
    assert not ran.exists()


def test_a_bare_pickle_with_code_does_not_run(tmp_path):
    ran = tmp_path / "ran"
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"evil": Malicious(ran)}))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        open_checkpoint(tmp_path)
    assert not ran.exists()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


BROKEN = {
    "nothing": (lambda folder: None, "no weights"),
    "cut safetensors": (
        lambda f: (WRITERS["safetensors"](f), cut(f / "model.safetensors")),
        r"model\.safetensors \(\d+ bytes\) cannot be read.*download it again",
    ),
    "empty safetensors": (lambda f: (f / "model.safetensors").touch(), "cannot be read"),
    "cut pickle": (
        lambda f: (WRITERS["pickle"](f), cut(f / "pytorch_model.bin")),
        r"pytorch_model\.bin \(\d+ bytes\) cannot be read.*download it again",
    ),
    "cut unzipped pickle": (
        lambda f: (WRITERS["pickle unzipped"](f), cut(f / "pytorch_model.bin")),
        r"pytorch_model\.bin",
    ),
    "empty pickle": (lambda f: (f / "pytorch_model.bin").touch(), r"pytorch_model\.bin"),
    "text for a pickle": (lambda f: (f / "pytorch_model.bin").write_text("hello"), r"pytorch_model\.bin"),
    "lfs pointer": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid 1\n"),
        "git lfs pull",
    ),
    "lfs pointer for a pickle": (
        lambda f: (f / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid 1\n"),
        r"cannot be read: it holds no tensors\. It is a git-lfs pointer: run `git lfs pull`",
    ),
    "no state dict": (lambda f: torch.save([1, 2], f / "pytorch_model.bin"), "holds a list"),
    "training state": (lambda f: torch.save({"step": 3}, f / "pytorch_model.bin"), "no tensors: step"),
    "no tensor": (lambda f: save_file({}, f / "model.safetensors"), "no tensor"),
    "lost shard": (
        lambda f: (write_shards(f, ".safetensors"), (f / "part-1.safetensors").unlink()),
        r"not there: part-1\.safetensors",
    ),
    "shard of another checkpoint": (
        lambda f: (write_shards(f, ".bin"), torch.save({"x": torch.zeros(1)}, f / "part-1.bin")),
        r"does not hold: layer\.1\.weight \(part-1\.bin\)",
    ),
    "one tensor twice": (
        lambda f: (write_shards(f, ".safetensors"), save_file(weights(), f / "part-1.safetensors")),
        "is also in",
    ),
    "a shard that is lost, and no index": (lambda f: write_numbered(f, (1, 3)), "and none is model.safetensors"),
    "index without a map": (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "weight_map"),
    "index is a list": (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "JSON list"),
    "index is no JSON": (lambda f: (f / "model.safetensors.index.json").write_text("{"), "cannot be read"),
    "shard outside the folder": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"w": "../x.safetensors"}}'),
        "not the name of a .safetensors file",
    ),
    "pickle in a safetensors index": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"w": "x.bin"}}'),
        "not the name of a .safetensors file",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_checkpoint_is_refused_by_name(tmp_path, spoil, message):
    spoil(tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_weights_that_are_not_finite_are_refused_by_name():
    state = weights()
    require_finite(state, "A")
    state["layer.1.weight"][0, 0] = float("nan")
    state["layer.2.weight"][:2, 0] = float("inf")
    message = r"A: .*layer\.1\.weight \(1 of 16 values\), layer\.2\.weight \(2 of 20 values\)"
    with pytest.raises(CheckpointError, match=message):
        require_finite(state, "A")


SPOILED = {"a corner": (0, -1), "a column": (slice(None), 0), "a row": (0, slice(None)), "rows": (slice(2), slice(2))}


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (5, 1), (6, 6), (2, 6, 6)])
@pytest.mark.parametrize("where", SPOILED.values(), ids=SPOILED)
def test_infinities_of_weights_are_no_mask(shape, where):
    weight = torch.randn(shape)
    weight[..., *where] = float("inf")
    with pytest.raises(CheckpointError, match="weights that are NaN or infinite: w "):
        require_finite({"w": weight}, "A")


def test_integers_and_meta_tensors_count_as_finite():
    require_finite({"steps": torch.tensor(3), "meta": torch.empty(2, device="meta")}, "A")


def test_hashes_of_the_inputs(tmp_path):
    WRITERS["safetensors shards"](tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert set(input_hashes(tmp_path)) == {"config.json", *(f"part-{i}.safetensors" for i in range(3))}
    assert file_sha256(tmp_path / "config.json").startswith("44136fa3")


@pytest.mark.parametrize("most", [10**9, 100])
def test_what_is_saved_reads_back(tmp_path, most):
    folder = save_checkpoint(tmp_path / "deep" / "out", weights(), storage=Storage(max_shard_bytes=most))
    checkpoint = open_checkpoint(folder)
    assert len(checkpoint.files) == (1 if most > 100 else 3)
    assert all(torch.equal(checkpoint[name], tensor) for name, tensor in weights().items())
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


@pytest.mark.parametrize("most", [10**9, 1])
def test_tied_weights_are_stored_once_and_read_twice(tmp_path, most):
    table = torch.randn(5, 4)
    state = {"embed": table, "head": table, "row": table[0], "turned": table.T, "other": torch.ones(2)}
    folder = save_checkpoint(tmp_path / "out", state, storage=Storage(max_shard_bytes=most))
    checkpoint = open_checkpoint(folder)
    assert {name for path in checkpoint.files for name in load_file(path)} == set(state) - {"head"}
    assert all(torch.equal(checkpoint[name], tensor) for name, tensor in state.items())


def test_weights_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(CheckpointError, match=r"to be written.*bad"):
        save_checkpoint(tmp_path / "out", {"bad": torch.tensor([float("nan")])})
    assert not list(tmp_path.iterdir())


def test_a_merged_folder_without_a_config(tmp_path):
    source = tmp_path / "a"
    source.mkdir()
    for name in ("tokenizer.json", "preprocessor_config.json", "model.safetensors", "secret.py"):
        (source / name).write_text("{}")
    report = {"weight": 0.5, "gain": float("nan"), "groups": [{"name": "g", "value": float("inf")}]}
    folder = write_merged(
        tmp_path / "out",
        weights(),
        report=report,
        source=source,
        base_models=["owner/name", str(source)],
        summary="Hm.",
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "model.safetensors", "permgraph.json", "preprocessor_config.json", "tokenizer.json",
    ]  # fmt: skip
    assert json.loads((folder / "permgraph.json").read_text()) == {
        "weight": 0.5, "gain": None, "groups": [{"name": "g", "value": None}],
        "files": sorted(path.name for path in folder.iterdir()),
    }  # fmt: skip
    card = (folder / "README.md").read_text()
    assert card.startswith(
        '---\nbase_model:\n- "owner/name"\n- "a"\nbase_model_relation: merge\ntags:\n- merge\n- permgraph\n---\n'
    )
    assert "Hm." in card
    assert str(tmp_path) not in card


def test_a_file_that_is_not_there_is_named(tmp_path):
    for read in (read_json, read_weights):
        with pytest.raises(CheckpointError, match=r"x\.json: no such file"):
            read(tmp_path / "x.json")
