"""Names in files that are not the model's own, and what a file may hold more."""

import pytest

from permgraph.errors import CheckpointError
from permgraph.models.names import fitted, why_left_out

OWN = ("base.embed.weight", "base.layers.0.w", "base.layers.1.w", "base.norm.weight", "head.weight")
FSDP = "_fsdp_wrapped_module"
BARE = tuple(name.removeprefix("base.") for name in OWN if name.startswith("base."))


def under(prefix, names=OWN):
    return tuple(prefix + name for name in names)


KINDS = {
    "as they are": (OWN, "", OWN),
    "compiled": (under("_orig_mod."), "", OWN),
    "data parallel": (under("module."), "module.", OWN),
    "compiled and data parallel": (under("_orig_mod.module."), "module.", OWN),
    "data parallel and compiled": (under("module._orig_mod."), "module.", OWN),
    "Lightning": (under("model."), "model.", OWN),
    "Lightning and compiled": (under("model._orig_mod."), "model.", OWN),
    "any one": (under("student.encoder."), "student.encoder.", OWN),
    "compiled within": (tuple(name.replace("layers.1", "layers.1._orig_mod") for name in OWN), "", OWN),
    "FSDP": (
        tuple(f"_fsdp_wrapped_module.{n}".replace("layers.", "layers._fsdp_wrapped_module.") for n in OWN),
        "",
        OWN,
    ),
    "checkpointed": (tuple(name.replace(".w", "._checkpoint_wrapped_module.w") for name in OWN), "", OWN),
    "the base model alone": (BARE, "", BARE),
    "the base model in a wrapper": (under("module.", BARE), "module.", BARE),
    "other names": (("a.b", "a.c", "base.norm.weight"), "", ("a.b", "a.c", "base.norm.weight")),
    "nothing": ((), "", ()),
}


@pytest.mark.parametrize(("stored", "prefix", "names"), KINDS.values(), ids=KINDS)
def test_names_are_the_models_own_again(stored, prefix, names):
    found = fitted(stored, OWN, "base.")
    assert (tuple(found.names), tuple(found.names.values())) == (names, stored)
    assert (found.prefix, dict(found.left_out)) == (prefix, {})


def test_what_lies_beside_the_prefix_is_left_out():
    more = (*under("ema_model.module."), "criterion.weight")
    found = fitted((*under("model."), *more), OWN)
    assert tuple(found.names) == OWN
    assert set(found.left_out) == set(more)
    assert found.left_out["ema_model.module.head.weight"] == "a moving average"
    assert found.left_out["criterion.weight"] == "not under 'model.', as the weights are"


def test_two_models_in_one_file_are_refused():
    with pytest.raises(CheckpointError, match=r"several models fit, under student\., teacher\."):
        fitted((*under("student."), *under("teacher.")), OWN)
    with pytest.raises(CheckpointError, match=r"are both names of 'head\.weight'"):
        fitted((*OWN, "_orig_mod.head.weight"), OWN)


LEFT = {
    "base.layers.0.attn.masked_bias": "a buffer",
    "base.layers.0.rotary_emb.inv_freq": "a buffer",
    "embeddings.position_ids": "a buffer",
    "model_ema.decay": "a moving average",
    "ema.base.layers.0.w": "a moving average",
    "n_averaged": "a moving average",
    "value_head.weight": "no part of Net",
    "base.pooler.weight": "no part of Net",
    "base.layers.2.w": "",
    "layers.2.w": "",
    "encoder.base.layers.17.w": "",
    "base.norm.bias": "",
    "head.weight_scale": "",
}


@pytest.mark.parametrize(("name", "why"), LEFT.items())
def test_what_a_file_holds_more_is_left_out_for_a_reason_or_refused(name, why):
    found = why_left_out(name, OWN, "Net")
    assert found.startswith(why)
    assert bool(found) == bool(why)
