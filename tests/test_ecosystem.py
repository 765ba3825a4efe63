"""What is written is what the hub expects; what training frameworks wrap is accepted, or refused with what to give."""

import copy
import warnings

import folders
import pytest
import torch
from accelerate import Accelerator, cpu_offload
from accelerate.state import AcceleratorState
from huggingface_hub import ModelCard
from torch import nn
from transformers import AutoModel, AutoModelForMaskedLM, Trainer, TrainingArguments
from typer.testing import CliRunner

import permgraph as pg
from permgraph.checkpoints.model_card import shared_licence
from permgraph.cli.app import app
from permgraph.errors import CaptureError, PermgraphError

IDS = {"input_ids": torch.arange(5, 25)[None]}


@pytest.fixture(scope="module")
def berts(tmp_path_factory):
    root = tmp_path_factory.mktemp("ecosystem")
    for seed, name in enumerate("ab"):
        folders.bert(root / name, "BertForMaskedLM", seed=seed)
        (root / name / "README.md").write_text(f"---\nlicense: apache-2.0\ntags:\n- {name}\n---\n# {name}\n")
    return root


def test_the_card_is_in_the_words_of_the_hub(berts, tmp_path):
    words = ["merge", str(berts / "a"), str(berts / "b"), "--groups", "feed_forward", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, words).exit_code == 0
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert data.base_model == ["a", "b"]
    assert {"merge", "permgraph"} <= set(data.tags)
    assert (data.library_name, data.license) == ("transformers", "apache-2.0")
    assert data.to_dict()["base_model_relation"] == "merge"
    assert type(AutoModelForMaskedLM.from_pretrained(tmp_path / "out")).__name__ == "BertForMaskedLM"
    assert AutoModel.from_pretrained(tmp_path / "out").config.model_type == "bert"


CARDS = {
    "both agree": (["license: mit", "license: 'mit'"], {"license": "mit"}),
    "they differ": (["license: mit", "license: apache-2.0"], {}),
    "one says nothing": (["license: mit", "tags:\n- x"], {}),
    "one has no card": (["license: mit", None], {}),
    "the same other": (
        ["license: other\nlicense_name: gemma\nlicense_link: https://x.org/l"] * 2,
        {"license": "other", "license_name": "gemma", "license_link": "https://x.org/l"},
    ),
    "two others": (["license: other\nlicense_name: x", "license: other\nlicense_name: y"], {}),
}


@pytest.mark.parametrize("name", CARDS)
def test_a_licence_is_kept_where_all_agree(tmp_path, name):
    cards, expected = CARDS[name]
    for number, front in enumerate(cards):
        (tmp_path / str(number)).mkdir()
        if front is not None:
            (tmp_path / str(number) / "README.md").write_text(f"---\n{front}\n---\nlicense: none\n")
    assert shared_licence(tmp_path / str(number) for number in range(len(cards))) == expected
    assert shared_licence([None, None]) == {}


def test_a_card_without_front_matter_says_no_licence(tmp_path):
    (tmp_path / "README.md").write_text("# x\nlicense: mit\n---\n")
    assert shared_licence([tmp_path]) == {}


def model(berts, name="a"):
    return AutoModelForMaskedLM.from_pretrained(berts / name).eval()


def trained(berts, tmp_path):
    """A model after one step of the real Trainer."""
    data = [{"input_ids": IDS["input_ids"][0], "labels": IDS["input_ids"][0]}]
    settings = {"max_steps": 1, "report_to": [], "use_cpu": True, "save_strategy": "no", "disable_tqdm": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(model(berts), TrainingArguments(str(tmp_path), **settings), train_dataset=data)
        trainer.train()
    return trainer


def test_a_trainer_is_told_to_give_its_model_and_its_model_works(berts, tmp_path):
    trainer = trained(berts, tmp_path)
    with pytest.raises(CaptureError, match=r"not Trainer; give its \.model"):
        pg.derive(trainer, (), IDS)
    with pytest.raises(CaptureError, match=r"training mode: call model\.eval\(\)"):
        pg.derive(trainer.model.train(), (), IDS)
    aligned = pg.align(trainer.model.eval(), model(berts, "b"), kwargs=IDS, groups=["feed_forward"])
    assert aligned.certificate.ok


def prepared(plain, precision):
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        return Accelerator(cpu=True, mixed_precision=precision).prepare_model(plain)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


WRAPPED = {
    "prepared by accelerate": lambda m: prepared(m, "no"),
    "prepared in bfloat16": lambda m: prepared(m, "bf16"),
    "torch.compile": torch.compile,
    "DataParallel": nn.DataParallel,
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_that_hold_the_weights_are_accepted(berts, name):
    plain = model(berts)
    expected = {group.size for group in pg.derive(plain, (), IDS).groups}
    wrapped = WRAPPED[name](copy.deepcopy(plain)).eval()
    spec = pg.derive(wrapped, (), IDS)
    assert {group.size for group in spec.groups} == expected
    moved = spec.apply(spec.sample(0), wrapped.state_dict())
    assert moved.keys() == wrapped.state_dict().keys()


def quantized(berts):
    found = model(berts)
    found.is_quantized = True
    return found


class PeftModel(nn.Module):
    """Has the name of the class in peft, by which that is recognised."""


class PeftModelForCausalLM(PeftModel):
    pass


class DeepSpeedEngine(nn.Module):
    pass


REFUSED = {
    "offloaded": (lambda berts: cpu_offload(model(berts)), "are offloaded by accelerate: load the model whole"),
    "quantized": (quantized, "is quantized: give the model in floating point"),
    "an adapter beside the weights": (lambda berts: PeftModelForCausalLM(), r"give model\.merge_and_unload\(\)"),
    "DeepSpeed": (lambda berts: DeepSpeedEngine(), r"give engine\.module"),
    "weights alone": (lambda berts: {"weight": torch.ones(1)}, "not dict; load it into its model"),
    "a function": (lambda berts: torch.relu, "not builtin_function_or_method; wrap it in one"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_weights_that_are_elsewhere_are_refused_with_what_to_give(berts, name):
    make, message = REFUSED[name]
    with pytest.raises(PermgraphError, match=message):
        pg.derive(make(berts), (), IDS)
