"""Heads are merged or kept from A by one rule; vocabularies that differ are refused."""

import json

import folders
import pytest
import torch
from commands import run
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from permgraph.errors import SpecMismatchError
from permgraph.jobs import whole
from permgraph.models.alike import require_alike
from permgraph.models.heads import common_part
from permgraph.models.loading import load
from permgraph.symmetry.proof.verification import Certificate

NAMES = {0: "a", 1: "b", 2: "c"}
CHECKPOINTS = {
    "bare": ("BertModel", {}),
    "other bare": ("BertModel", {"seed": 5}),
    "three": ("BertForSequenceClassification", {"num_labels": 3}),
    "other three": ("BertForSequenceClassification", {"num_labels": 3, "seed": 5}),
    "five": ("BertForSequenceClassification", {"num_labels": 5}),
    "named": (
        "BertForSequenceClassification",
        {"id2label": NAMES, "label2id": {v: k for k, v in NAMES.items()}, "seed": 6},
    ),
    "words": ("BertForMaskedLM", {}),
    "other words": ("BertForMaskedLM", {"seed": 5}),
    "untied": ("BertForMaskedLM", {"tie_word_embeddings": False, "seed": 7}),
}
PAIRS = {
    # A, B: modules merged beside the base model, kept from A, left out of B
    ("bare", "other bare"): ((), (), None),
    ("three", "other three"): (("classifier",), (), None),
    ("words", "other words"): (("cls",), (), None),
    ("three", "bare"): ((), ("classifier",), ()),
    ("bare", "three"): ((), (), ("classifier",)),
    ("three", "five"): ((), ("classifier",), ("classifier",)),
    ("three", "named"): ((), ("classifier",), ("classifier",)),
    ("three", "words"): ((), ("bert.pooler", "classifier"), ("cls",)),
    ("words", "three"): ((), ("cls",), ("bert.pooler", "classifier")),
    ("untied", "bare"): ((), ("cls",), ("pooler",)),
    ("untied", "words"): ((), ("cls",), ("cls",)),
}


@pytest.fixture(scope="module")
def berts(tmp_path_factory):
    root = tmp_path_factory.mktemp("berts")
    for name, (kind, more) in CHECKPOINTS.items():
        folders.bert(root / name, kind, **{"seed": 1, **more})
    return root


@pytest.mark.parametrize("pair", PAIRS, ids=" + ".join)
def test_which_heads_are_merged_kept_and_left_out(berts, pair):
    merged, kept, left_out = PAIRS[pair]
    models = [load(str(berts / name)) for name in pair]
    parts, heads = common_part(models)
    assert (heads.merged, heads.kept) == (merged, kept)
    assert heads.whole is (left_out is None)
    assert left_out is None or heads.left_out == {pair[1]: left_out}
    shapes = [{name: tensor.shape for name, tensor in part.model.state_dict().items()} for part in parts]
    assert shapes[0] == shapes[1]
    assert all(
        part.outputs == ("free" if left_out is not None else model.outputs)
        for part, model in zip(parts, models, strict=True)
    )
    assert [set(model.model.state_dict()) for model in models] == [
        set(load(str(berts / name)).model.state_dict()) for name in pair
    ]


@pytest.mark.parametrize("pair", PAIRS, ids=" + ".join)
def test_the_rule_is_carried_out_and_written_down(berts, tmp_path, pair):
    _, kept, left_out = PAIRS[pair]
    result = run("merge", *(berts / name for name in pair), "--weight", 0.75, "--out", tmp_path / "out")
    (a, b), merged = ((load(str(berts / name)) for name in pair), load(str(tmp_path / "out")))
    assert type(merged.model) is type(a.model)
    state, states = merged.model.state_dict(), [m.model.state_dict() for m in (a, b)]
    assert state.keys() == states[0].keys()
    table = next(name for name in state if name.endswith("word_embeddings.weight"))
    for name, tensor in state.items():
        if (
            name.startswith(tuple(f"{module}." for module in kept))
            and states[0][name].data_ptr() != states[0][table].data_ptr()
        ):
            assert torch.equal(tensor, states[0][name]), name
    assert not torch.equal(state[table], states[0][table])
    report = json.loads((tmp_path / "out" / "permgraph.json").read_text())
    text = report["heads"] or ""
    assert text in result.stdout
    assert (text.split(" (")[0] == "heads not merged") is (left_out is not None)
    assert all(module in text for module in kept)
    assert text[1:] in (tmp_path / "out" / "README.md").read_text()
    assert str(berts) not in text


def test_a_head_that_is_tied_to_the_embeddings_follows_them(berts, tmp_path):
    run("merge", berts / "words", berts / "three", "--out", tmp_path / "out")
    merged = load(str(tmp_path / "out")).model
    assert merged.cls.predictions.decoder.weight is merged.bert.embeddings.word_embeddings.weight
    assert "cls.predictions.decoder.weight" not in load_file(tmp_path / "out" / "model.safetensors")


def test_a_kept_head_on_the_merged_base_computes_with_a_share_of_one_as_a_does(berts, tmp_path):
    run("merge", berts / "three", berts / "words", "--weight", 1, "--out", tmp_path / "out")
    ids = torch.arange(5, 25)[None]
    logits = [
        AutoModelForSequenceClassification.from_pretrained(folder).eval()(ids).logits
        for folder in (tmp_path / "out", berts / "three")
    ]
    assert torch.allclose(*logits)


def test_a_head_that_no_matched_group_moves_is_said_to_stay(berts, tmp_path):
    """The hidden units of feed-forward layers do not reach a head, and the pooler's units do."""
    words = (berts / "three", berts / "three")
    text = run("align", *words, "--groups", "feed_forward", "--out", tmp_path / "one").stdout
    assert "heads of B do not move: " in text
    assert "heads moved with B" not in text
    words = (berts / "three", berts / "words")
    text = run("align", *words, "--groups", "feed_forward", "--out", tmp_path / "two").stdout
    assert "the head of B does not move" in text
    told = json.loads((tmp_path / "two" / "permgraph.json").read_text())["tensors"]
    assert {told[name] for name in told if name.startswith("cls.")} <= {"taken", "left out"}


@pytest.mark.parametrize("pair", [("bare", "three"), ("three", "words"), ("words", "named"), ("three", "bare")])
def test_the_head_of_b_moves_along_where_only_base_models_are_matched(berts, tmp_path, pair):
    text = run("align", *(berts / name for name in pair), "--out", tmp_path / "out").stdout
    assert "base models matched (" in text
    assert "the head of B moved along" in text
    before, after = load(str(berts / pair[1])).model, load(str(tmp_path / "out")).model
    assert type(before) is type(after)
    state, moved = before.state_dict(), after.state_dict()
    assert not torch.allclose(state[next(iter(state))], moved[next(iter(state))])
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        x, y = (model(ids)[0] for model in (before, after))
    if pair[1] == "bare":  # the outputs of a bare model are permuted
        x, y = x.sort(-1).values, y.sort(-1).values
    assert torch.allclose(x, y, atol=1e-4)


def test_a_head_that_cannot_move_along_is_refused(berts, tmp_path, monkeypatch):
    bad = Certificate(False, 1.0, 1e-8, ("residual",), 1, 0)
    monkeypatch.setattr(whole, "prove", lambda *args: bad)
    refused = run("align", berts / "bare", berts / "three", "--out", tmp_path / "out", code=1)
    assert "the head of B cannot move along: the function changes: residual" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_three_models_share_what_all_of_them_have(berts, tmp_path):
    words = ("merge", berts / "three", berts / "bare", berts / "words", "--out", tmp_path / "out")
    assert "kept from A: bert.pooler, classifier; left out: " in run(*words).stdout
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == [
        "BertForSequenceClassification"
    ]


def test_letters_of_a_ctc_head_decide_whether_it_is_merged(tmp_path):
    models = {
        name: load(str(folders.hubert_ctc(tmp_path / name, seed=number, letters=letters)))
        for number, (name, letters) in enumerate({"a": "abcdefgh", "b": "abcdefgh", "c": "hgfedcba"}.items())
    }
    assert common_part([models["a"], models["b"]])[1].merged == ("lm_head",)
    parts, heads = common_part([models["a"], models["c"]])
    assert heads.kept == ("lm_head",)
    assert heads.reason == "the labels of a and c differ"
    assert parts[0].tie == {("masked_spec_embed", 0): ("encoder.layer_norm.weight", 0)}


VOCABULARIES = {
    "same": (folders.WORDS, None),
    "swapped": ((*folders.WORDS[:6], "w2", "w1", *folders.WORDS[8:]), r"differ in 2 of 45 tokens, as 'w1' \(6 and 7\)"),
    "other": ((*folders.WORDS[:-1], "new"), r"differ in 2 of 46 tokens, as 'w39' \(44 and absent\), 'new'"),
    "longer": ((*folders.WORDS, "new"), "differ in 1 of 46 tokens"),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_other_vocabularies_are_refused_where_a_model_is_enlarged(berts, tmp_path, name):
    words, message = VOCABULARIES[name]
    folders.bert(tmp_path / "b", words=words)
    a, b = load(str(berts / "bare")), load(str(tmp_path / "b"))
    if message is None:
        assert require_alike(a, b) == ()
        return
    with pytest.raises(SpecMismatchError, match=message) as caught:
        require_alike(a, b)
    assert "one tokenizer" in str(caught.value)
    words = ("merge", berts / "bare", tmp_path / "b", "--enlarge", "--out", tmp_path / "out")
    assert "enlarged with one tokenizer" in run(*words, code=1).stderr
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_tokenizer_is_taken_on_trust_with_a_warning(berts, tmp_path):
    folders.checkpoint(tmp_path / "b", "BertModel", folders.TEXT, seed=2)
    a, b = load(str(berts / "bare")), load(str(tmp_path / "b"))
    (warning,) = require_alike(a, b)
    assert warning.endswith("has no tokenizer: its token ids are taken to mean the same")
    assert require_alike(b, b) == ()
