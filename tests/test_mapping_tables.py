"""The comparison with tables of layers written by hand: what it reads, how it finds layers, and how it judges."""

from __future__ import annotations

import torch
from judge import generic
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.mappings.entries import patterns, read, resolved
from benchmarks.mappings.proof import outcome, runner

SOURCE = """
first = [
    Pair("re:.*input_layernorm$", ["re:.*q_proj$", "re:.*k_proj$", "re:.*v_proj$"]),
    Pair("re:.*gate_proj$", ["re:.*down_proj$"]),
]
second = [Pair(balance_layers=["re:.*gate_proj$", "re:.*up_proj$"], smooth_layers="re:.*post_attention_layernorm")]
table: dict[str, list[Pair]] = {"A": first, "B": second}
"""


def test_tables_are_read_as_syntax() -> None:
    table = read(SOURCE)["table"]
    assert patterns(table["A"])[1] == ("re:.*gate_proj$", ["re:.*down_proj$"])
    assert patterns(table["B"]) == [("re:.*post_attention_layernorm", ["re:.*gate_proj$", "re:.*up_proj$"])]


def test_pairs_are_put_to_the_proof() -> None:
    """A norm into its readers keeps the function, a gate into the down-projection does not."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 50}
    llama = LlamaForCausalLM(LlamaConfig(num_attention_heads=4, use_cache=False, **sizes)).eval()
    model = generic(llama, 0)
    run = runner(model, (), {"input_ids": torch.arange(6)[None]})
    found = []
    for smooth, balance in patterns(read(SOURCE)["first"]):
        pairs = list(resolved(model, smooth, balance))
        assert [pair[0].split(".")[2] for pair in pairs] == ["0", "1"]
        assert all(reader.startswith(".".join(pair[0].split(".")[:3])) for pair in pairs for reader in pair[1])
        found.append([outcome(model, run, pair) for pair in pairs])
    assert found == [["right"] * 2, ["wrong"] * 2]
    assert list(resolved(model, "re:.*input_layernorm$", ["re:.*no_such_layer$"])) == [None, None]
