"""The card says how to load what was written, and names as base models what a hub can know."""

import pytest

from permgraph.checkpoints.model_card import home_of, model_card, shared_licence

CARDS = {
    "transformers": (("owner/a",), "transformers", "BertModel", ('- "owner/a"', "BertModel.from_pretrained('m')")),
    "timm": (("owner/a",), "timm", "", ("timm.create_model",)),
    "code": (("python:mine:a", "owner/b"), "", "", ('- "owner/b"', "load_model(model, 'm/model.safetensors')")),
}


@pytest.mark.parametrize(("models", "library", "kind", "lines"), CARDS.values(), ids=CARDS)
def test_a_card_says_how_to_load(models, library, kind, lines):
    card = model_card("m", models, library=library, architecture=kind)
    assert all(line in card for line in lines)
    assert '"python:' not in card
    assert "base_model:" not in model_card("m", ["python:mine:a"])


def test_a_card_imports_a_class_from_where_it_is():
    class Script:
        __module__ = "__main__"

    class Own:
        __module__ = "pulsenet.modeling"

    class Theirs:
        __module__ = "transformers.models.bert.modeling_bert"

    assert [home_of(kind) for kind in (Own, Theirs, Script)] == ["pulsenet.modeling", "transformers", ""]
    card = model_card("m", [], library="transformers", architecture="PulseNet", home=home_of(Own))
    assert "from pulsenet.modeling import PulseNet\n" in card
    assert "load_model(model," in model_card("m", [], library="transformers", architecture="Net", home="")


def test_a_card_that_may_not_be_read_says_nothing_of_the_licence(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert shared_licence([tmp_path]) == {"license": "mit"}

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_text", refused)
    assert shared_licence([tmp_path]) == {}
