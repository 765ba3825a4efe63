"""How adapters are found, and what the default one guesses."""

from importlib.metadata import Distribution, EntryPoint

import pytest
import torch
from tiny_models import TEXT, built
from transformers import BertConfig, BertModel

from permgraph import adapters
from permgraph.adapters import Adapter, adapter_for, installed_adapters
from permgraph.errors import AdapterError


class Claimant(Adapter):
    model_types = ("claimed", "bert")


class Elsewhere(Distribution):
    def __init__(self, name):
        self._name = name

    @property
    def metadata(self):
        return {"Name": self._name, "Version": "1"}

    @property
    def name(self):
        return self._name

    @property
    def version(self):
        return "1"

    def read_text(self, filename):
        return None

    def locate_file(self, path):
        return path


def install(monkeypatch, **points):
    found = [
        EntryPoint(name, value, adapters.GROUP)._for(Elsewhere(name.split("_")[0])) for name, value in points.items()
    ]
    monkeypatch.setattr(adapters, "entry_points", lambda group: found)


def test_an_adapter_of_a_third_party_is_found(monkeypatch):
    install(monkeypatch, one=f"{__name__}:Claimant")
    assert type(adapter_for("claimed")).__name__ == "Claimant"
    assert type(adapter_for("other")) is Adapter
    assert [found.distribution for found in installed_adapters()] == ["one 1"]


def test_two_claims_are_refused_with_both_origins(monkeypatch):
    install(monkeypatch, one=f"{__name__}:Claimant", two=f"{__name__}:Claimant")
    with pytest.raises(AdapterError, match="'claimed' is claimed by 'one' of one 1 and 'two' of two 1"):
        adapter_for("claimed")
    assert type(adapter_for("other")) is Adapter


class Other(Adapter):
    model_types = ("other",)


def test_two_packages_with_one_name_are_refused_with_both_origins(monkeypatch):
    points = [("one", f"{__name__}:Claimant"), ("two", f"{__name__}:Other")]
    found = [EntryPoint("same", value, adapters.GROUP)._for(Elsewhere(name)) for name, value in points]
    monkeypatch.setattr(adapters, "entry_points", lambda group: found)
    for model_type in ("claimed", "other"):
        with pytest.raises(AdapterError, match=r"the name 'same' is taken by 'same' of (one|two) 1 and 'same' of"):
            adapter_for(model_type)
    assert type(adapter_for("neither")) is Adapter


@pytest.mark.parametrize(
    "value", ["no_such_package:Thing", f"{__name__}:Absent", f"{__name__}:Elsewhere", "json:dumps"]
)
def test_a_broken_adapter_is_named_where_it_might_matter(monkeypatch, value):
    install(monkeypatch, one=f"{__name__}:Claimant", broken=value)
    assert type(adapter_for("claimed")).__name__ == "Claimant"
    with pytest.raises(AdapterError, match="'broken' of broken 1"):
        adapter_for("other")


def test_inputs_that_cannot_be_guessed(tmp_path):
    class Odd(BertModel):
        main_input_name = "smells"

        def forward(self, smells):
            return smells

    with pytest.raises(AdapterError, match=r"'smells'.*python:"):
        Adapter().example_inputs(Odd(BertConfig(**TEXT)))


def test_inputs_are_those_that_forward_takes_and_needs():
    class Seeing(BertModel):  # the name of the main input is left as it was
        def forward(self, pixel_values, decoder_input_ids, input_features=None):
            return pixel_values, decoder_input_ids

    _, inputs = Adapter().example_inputs(Seeing(BertConfig(**TEXT)))
    assert list(inputs) == ["pixel_values", "decoder_input_ids"]


def test_example_inputs_depend_on_the_seed_alone(tmp_path):
    model = built("bert")
    first, again, other = (Adapter().example_inputs(model, seed=seed)[1]["input_ids"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not bool((first == model.config.pad_token_id).any())
