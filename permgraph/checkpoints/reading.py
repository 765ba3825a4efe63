"""The weights of a Hugging Face checkpoint folder as a mapping that reads one tensor at a time."""

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from permgraph.checkpoints.foreign import ADAPTER, adapter_error
from permgraph.checkpoints.json_files import read_json
from permgraph.checkpoints.lazy_state import like, slabs_of
from permgraph.checkpoints.stored import StoredTensor, WeightFile
from permgraph.checkpoints.weight_files import OTHERS, READERS, read_weights
from permgraph.errors import CheckpointError, NonFiniteError
from permgraph.wording import few

DIFFUSERS = "diffusion_pytorch_model"
SHARD = re.compile(r"(.*)-00001-of-\d{5}(\.safetensors|\.bin)")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", f"{DIFFUSERS}.safetensors", f"{DIFFUSERS}.bin")


class Checkpoint(Mapping[str, Tensor]):
    """A read-only mapping from parameter name to tensor; a tensor is read when it is asked for, and not kept.

    `info[name]` has `shape`, `dtype` and `file` without reading anything, `left_out` what else the files hold, each
    name with a reason. Two names that were stored once because they share memory (tied weights) both resolve.
    """

    def __init__(self, folder: Path, files: Sequence[WeightFile]) -> None:
        self.folder = folder
        self.opened = tuple(file.file for file in files)
        self.left_out = {name: why for file in files for name, why in file.left_out.items()}
        self.info: dict[str, StoredTensor] = {}
        for file in files:
            for name, stored in file.tensors.items():
                if name in self.info:
                    raise CheckpointError(
                        f"{file.file.path}: tensor {name!r} is also in {self.info[name].file.name}, so it is not clear "
                        "which one counts. Save the checkpoint again with `save_pretrained`."
                    )
                self.info[name] = stored
        if not self.info:
            raise CheckpointError(f"{folder}: the weight files hold no tensor. Save or download the checkpoint again.")

    def with_info(self, info: Mapping[str, StoredTensor]) -> "Checkpoint":
        """The same files, of which these tensors are read."""
        other = copy.copy(self)
        other.info = dict(info)
        return other

    @property
    def files(self) -> tuple[Path, ...]:
        """The weight files, each once, in the order in which their tensors come."""
        return tuple(dict.fromkeys(stored.file for stored in self.info.values()))

    def hashes(self) -> dict[str, str]:
        """File name to SHA-256 of what was read. Raises CheckpointError if a file changed since it was opened."""
        return {file.path.name: file.sha256() for file in self.opened}

    def __getitem__(self, name: str) -> Tensor:
        """The tensor called `name`. Raises KeyError for an unknown name, CheckpointError for an unreadable file."""
        return self.info[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self.info)

    def __len__(self) -> int:
        return len(self.info)


def open_checkpoint(place: Path | str) -> Checkpoint:
    """The weights at `place`: a file of weights, or a folder with `model.safetensors` or `pytorch_model.bin`, whole or
    in shards with an index.

    Safetensors win where both are there. Pickled files are read with `weights_only=True`: code in them never runs.
    Raises CheckpointError naming the file that is absent, truncated, unsafe, or not what its index promises.
    """
    place = Path(place)
    paths = [place] if place.is_file() else weight_files(place)
    checkpoint = Checkpoint(place, [read_weights(path) for path in paths])
    if place.is_dir():
        _require_promised(place, checkpoint.info)
    return checkpoint


def weight_files(folder: Path | str) -> list[Path]:
    """The files that hold a folder's weights. Raises CheckpointError naming what was looked for, or the lost shards."""
    folder = Path(folder)
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}.index.json").is_file():
            return _shards(folder / f"{name}.index.json")
    if shards := _shards_without_index(folder):
        return shards
    raise _no_weights(folder)


def _no_weights(folder: Path) -> CheckpointError:
    """The error for a folder without weights: what it has instead, and what to do."""
    if (folder / ADAPTER).is_file():
        return adapter_error(folder)
    known = sorted(path for path in folder.glob("*") if path.suffix.lower() in OTHERS)
    if known:
        return CheckpointError(f"{known[0]}: is {OTHERS[known[0].suffix.lower()]}.")
    single = sorted(path.name for path in folder.glob("*") if path.suffix in READERS)
    if single:
        return CheckpointError(
            f"{folder}: has {few(single)}, and none is model.safetensors. Give the file itself, with --model "
            "python:package.module:function or timm:NAME, or rename it."
        )
    looked_for = ", ".join(f"{name}, {name}.index.json" for name in WEIGHT_FILES[:2])
    return CheckpointError(f"{folder}: no weights (looked for {looked_for}). Give the folder `save_pretrained` wrote.")


def require_finite(state_dict: Mapping[str, Tensor], where: object) -> tuple[str, ...]:
    """Every float tensor is finite or a mask; the names of the masks (`is_mask`).

    Raises NonFiniteError naming `where` and each other tensor with a NaN or an infinity.
    """
    bad, masks = [], []
    for name in state_dict:
        if all(map(_is_finite, slabs_of(state_dict, name))):
            continue
        if is_mask(state_dict[name]):
            masks.append(name)
            continue
        wrong = sum(int((~torch.isfinite(part)).sum()) for part in slabs_of(state_dict, name))
        bad.append(f"{name} ({wrong} of {like(state_dict)[name].numel()} values)")
    if bad:
        raise NonFiniteError(
            f"{where}: weights that are NaN or infinite: {few(bad)}. Nothing can be matched or merged with them. "
            "Take weights from before training diverged, or convert them again from the original precision."
        )
    return tuple(masks)


def is_mask(tensor: Tensor) -> bool:
    """Whether a tensor of two or more dimensions has infinities, no NaN, and looks like what attention adds to scores.

    Its other places hold one number, or infinities depend only on the distance of two positions, as in a causal or
    windowed bias (ALiBi); the infinities of weights that diverged are scattered.
    """
    if tensor.dim() < 2 or _is_finite(tensor) or bool(tensor.isnan().any()):
        return False
    finite = tensor.isfinite()
    return bool(finite.any()) and (bool((tensor[finite].diff() == 0).all()) or _is_by_distance(finite))


def _is_by_distance(finite: Tensor) -> bool:
    """Whether [..., q, k] is constant along diagonals, and false somewhere in all rows but one of each matrix."""
    rows = (~finite).any(-1).sum(-1)
    by_distance = min(finite.shape[-2:]) > 2 and torch.equal(finite[..., 1:, 1:], finite[..., :-1, :-1])
    return by_distance and bool((rows >= finite.shape[-2] - 1).all())


def _is_finite(tensor: Tensor) -> bool:
    if tensor.is_complex():
        return bool(tensor.isfinite().all()) if not tensor.is_meta else True
    if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
        return True
    wide = tensor.detach().float() if tensor.element_size() == 1 else tensor.detach()  # float8 has no aminmax
    # NaN wins both ways; one pass without a mask of the tensor's size.
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(wide))


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def input_hashes(folder: Path | str) -> dict[str, str]:
    """File name to SHA-256, for `config.json` and every weight file of a checkpoint folder: what a report cites."""
    paths = [Path(folder) / "config.json", *weight_files(folder)]
    return {path.name: file_sha256(path) for path in paths if path.is_file()}


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names, dtypes, shapes and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: has no 'weight_map' from tensor to shard. Download the index again.")
    return {str(name): str(shard) for name, shard in weight_map.items()}


def _shards(index: Path) -> list[Path]:
    suffix = Path(index.name.removesuffix(".index.json")).suffix
    names = sorted(set(_weight_map(index).values()))
    for name in names:
        if Path(name).name != name or Path(name).suffix != suffix:
            raise CheckpointError(
                f"{index}: the shard {name!r} is not the name of a {suffix} file in the folder of the index. "
                "Download the index again, from a source you trust."
            )
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{index}: shards that are not there: {few(missing)}. Download them, or the whole checkpoint, again."
        )
    return [index.parent / name for name in names]


def _shards_without_index(folder: Path) -> list[Path]:
    """The shards 1 to n of n with one name, in order; [] unless all are there, and no other weights."""
    found = sorted(path for path in folder.glob("*") if path.suffix in READERS)
    parts = SHARD.fullmatch(found[0].name) if found else None
    if parts is None:
        return []
    stem, suffix = parts[1], parts[2]
    whole = [f"{stem}-{number:05}-of-{len(found):05}{suffix}" for number in range(1, len(found) + 1)]
    return found if whole == [path.name for path in found] else []


def _require_promised(folder: Path, info: Mapping[str, StoredTensor]) -> None:
    paths = weight_files(folder)
    index = next((i for w in WEIGHT_FILES if (i := folder / f"{w}.index.json").is_file()), None)
    if index is None or paths[0].name in WEIGHT_FILES:
        return
    lost = [f"{n} ({shard})" for n, shard in _weight_map(index).items() if n not in info or info[n].file.name != shard]
    if lost:
        raise CheckpointError(
            f"{index}: tensors that their shard does not hold: {few(lost)}. "
            "Index and shards are from different checkpoints: download all of them again."
        )
