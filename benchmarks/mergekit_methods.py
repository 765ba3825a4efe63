"""Does B aligned by permgraph feed mergekit's TIES, DARE and SLERP, and what is that worth?

mergekit is installed beside the project, never into its environment:

    pip install --no-deps --target DIR mergekit==0.1.5 accelerate pydantic pydantic-core annotated-types \
        typing-inspection immutables peft sentencepiece protobuf psutil
    python benchmarks/mergekit_methods.py --peers DIR

Two pairs of small Llamas that model characters of Python's standard library. *Fine-tuned*: one base, trained on in two
directions, and B's units then put in random order, as if it had been stored by another implementation. *Independent*:
two other seeds. Every pair is merged by the real mergekit, through the function that its own command calls, with B as
it stands and with B from `permgraph align`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import permgraph as pg
from benchmarks.measured_with import measured_with
from permgraph.cli.app import app

RESULT = Path(__file__).parent / "results" / "mergekit.json"
MODULES = {
    "base": ("argparse.py", "typing.py", "pathlib.py", "inspect.py", "datetime.py"),
    "a": ("tarfile.py", "zipfile.py", "shutil.py", "os.py"),
    "b": ("ast.py", "dis.py", "doctest.py", "pdb.py"),
    "held out": ("statistics.py", "fractions.py", "random.py", "heapq.py"),
}
ORDERED = "b in A's order"
PAIRS = ("fine-tuned", "independent")
CONTEXT, BATCH = 96, 32
SIZES = {
    "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 3,
    "intermediate_size": 256, "vocab_size": 128, "max_position_embeddings": CONTEXT, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "ties": {"density": 0.6, "weight": 0.5},
    "dare_ties": {"density": 0.6, "weight": 0.5},
    "slerp": {"t": 0.5},
    "linear": {"weight": 0.5},
}


def text(part: str) -> torch.Tensor:
    """Character codes of some modules of the standard library; what is not ASCII is left out."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    joined = "".join((folder / name).read_text(encoding="utf-8") for name in MODULES[part])
    return torch.tensor([code for code in map(ord, joined) if code < 128])


def train(model: LlamaForCausalLM, part: str, steps: int, seed: int, rate: float) -> LlamaForCausalLM:
    codes, generator = text(part), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        starts = torch.randint(0, len(codes) - CONTEXT, (BATCH,), generator=generator)
        ids = torch.stack([codes[start : start + CONTEXT] for start in starts])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval()


def fresh(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SIZES))


@torch.no_grad()
def loss(folder: Path) -> float:
    """Mean cross-entropy (nats a character) on the held-out modules."""
    model, codes = AutoModelForCausalLM.from_pretrained(folder).eval(), text("held out")
    rows = codes[: len(codes) // CONTEXT * CONTEXT].reshape(-1, CONTEXT)
    return sum(model(input_ids=part, labels=part).loss.item() * len(part) for part in rows.split(128)) / len(rows)


def fine_tuned(folder: Path, steps: int) -> dict[str, Path]:
    paths = {"base": folder / "base", "a": folder / "a", "b": folder / "b", ORDERED: folder / "ordered"}
    train(fresh(0), "base", steps, 0, 3e-3).save_pretrained(paths["base"])
    for part, name, seed in (("a", "a", 1), ("b", ORDERED, 2)):
        model = AutoModelForCausalLM.from_pretrained(paths["base"])
        train(model, part, steps // 4, seed, 5e-4).save_pretrained(paths[name])
    loaded = pg.load(str(paths[ORDERED]))
    spec = pg.derive(loaded.model, loaded.args, loaded.kwargs)
    loaded.model.load_state_dict(spec.apply(spec.sample(3), loaded.model.state_dict()))
    loaded.model.save_pretrained(paths["b"])
    return paths


def independent(folder: Path, steps: int) -> dict[str, Path]:
    for name, seed in (("a", 11), ("b", 12)):
        train(fresh(seed), "base", steps, seed, 3e-3).save_pretrained(folder / name)
    return {"base": folder / "a", "a": folder / "a", "b": folder / "b"}


def merged(method: str, base: Path, a: Path, b: Path, out: Path) -> dict[str, Any]:
    """The outcome of mergekit on this pair: the loss of what it wrote, or what it said."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    options = METHODS[method]
    models = [{"model": str(path), "parameters": {} if method == "slerp" else options} for path in (a, b)]
    config: dict[str, Any] = {"merge_method": method, "models": models, "dtype": "float32"}
    if method == "slerp":
        config |= {"base_model": str(a), "parameters": options}
    elif method != "linear":
        config["base_model"] = str(base)
    settings = MergeOptions(copy_tokenizer=False, random_seed=0, quiet=True)
    try:
        run_merge(MergeConfiguration.model_validate(config), str(out), settings)
    except Exception as error:
        return {"outcome": "failed", "said": f"{type(error).__name__}: {error}"}
    return {"outcome": "merged", "loss": loss(out)}


def align(a: Path, b: Path, out: Path) -> None:
    app(["align", str(a), str(b), "--out", str(out), "--quiet"], standalone_mode=False)


def measure(pair: dict[str, Path], folder: Path) -> dict[str, Any]:
    align(pair["a"], pair["b"], folder / "aligned")
    inputs = {"as it stands": pair["b"], "aligned": folder / "aligned"}
    inputs |= {"in A's order": pair[ORDERED]} if ORDERED in pair else {}
    found: dict[str, Any] = {"loss": {name: loss(path) for name, path in pair.items()}, "methods": {}}
    found["loss"]["aligned"] = loss(folder / "aligned")
    for method in METHODS:
        outs = {name: folder / f"{method}-{number}" for number, name in enumerate(inputs)}
        found["methods"][method] = {
            name: merged(method, pair["base"], pair["a"], path, outs[name]) for name, path in inputs.items()
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="where mergekit was installed to")
    parser.add_argument("--steps", type=int, default=300, help="of training; fine-tuning takes a quarter")
    parser.add_argument("--only", choices=PAIRS, help="measure this pair and keep the other's figures")
    options = parser.parse_args()
    sys.path.append(str(options.peers.resolve()))
    version = importlib.metadata.version("mergekit")
    found = {}
    for name, make in zip(PAIRS, (fine_tuned, independent), strict=True):
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                found[name] = measure(make(Path(folder), options.steps), Path(folder))
    before = json.loads(RESULT.read_text())["pairs"] if options.only and RESULT.is_file() else {}
    results = {"mergekit": version, "torch": torch.__version__, "steps": options.steps, "pairs": before | found}
    results |= {"measured": measured_with()}
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
