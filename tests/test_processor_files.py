"""What is copied from a checkpoint beside its weights, and that no code in it runs or goes along."""

import json
from pathlib import Path

import pytest
from folders import bert, sentences
from typer.testing import CliRunner

from permgraph.checkpoints.processor_files import copy_processor
from permgraph.cli.app import app

SECRET = "PRIVATE KEY"


def link(path, target):
    path.symlink_to(target)


FILES = {
    "a tokenizer": ("tokenizer.json", lambda p, _: p.write_text("{}"), "{}"),
    "a chat template": ("chat_template.jinja", lambda p, _: p.write_text("{{ x }}"), "{{ x }}"),
    "a file not known": ("notes.txt", lambda p, _: p.write_text("mine"), None),
    "code": ("tokenizer_evil.py", lambda p, _: p.write_text("boom()"), None),
    "code that is called a model": ("tokenizer.model.py", lambda p, _: p.write_text("boom()"), None),
    "a link out": ("tokenizer_x.json", lambda p, base: link(p, base / "id_rsa"), None),
    "a relative link out": ("vocab.txt", lambda p, _: link(p, Path("..") / "id_rsa"), None),
    "a link within": ("vocab.txt", lambda p, _: (p.with_name("v1").write_text("a"), link(p, "v1")), "a"),
    "a folder": ("tokenizer.json", lambda p, _: p.mkdir(), None),
    "a broken link": ("vocab.json", lambda p, _: link(p, "nowhere"), None),
    "a config that names code": (
        "tokenizer_config.json",
        lambda p, _: p.write_text('{"auto_map": {"AutoTokenizer": ["evil.T", null]}, "model_max_length": 5}'),
        '{\n  "model_max_length": 5\n}\n',
    ),
}


@pytest.mark.parametrize(("name", "make", "copied"), FILES.values(), ids=FILES)
def test_known_data_is_copied_and_nothing_else(tmp_path, name, make, copied):
    (tmp_path / "id_rsa").write_text(SECRET)
    for folder in ("source", "out"):
        (tmp_path / folder).mkdir()
    make(tmp_path / "source" / name, tmp_path)
    copy_processor(tmp_path / "source", tmp_path / "out")
    found = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert found == ({} if copied is None else {name: copied})


def test_the_cache_of_the_hub_is_made_of_links(tmp_path):
    blobs, snapshot, out = tmp_path / "m" / "blobs", tmp_path / "m" / "snapshots" / "abc", tmp_path / "out"
    for folder in (blobs, snapshot, out):
        folder.mkdir(parents=True)
    (blobs / "1234").write_text("{}")
    (snapshot / "tokenizer.json").symlink_to("../../blobs/1234")
    copy_processor(snapshot, out)
    assert (out / "tokenizer.json").read_text() == "{}"


def with_code(folder, config, auto):
    fields = json.loads((folder / config).read_text()) if (folder / config).exists() else {}
    (folder / config).write_text(json.dumps(fields | {"auto_map": auto}))
    (folder / "evil.py").write_text(f"open({str(folder.parent / 'ran')!r}, 'w')\nclass T: pass\nclass C: pass\n")


AUTO = {
    "a tokenizer": ("tokenizer_config.json", {"AutoTokenizer": ["evil.T", "evil.T"]}),
    "a model": ("config.json", {"AutoModel": "evil.T", "AutoConfig": "evil.C"}),
    "a processor": ("preprocessor_config.json", {"AutoImageProcessor": "evil.T", "AutoFeatureExtractor": "evil.T"}),
}


@pytest.mark.parametrize(("config", "auto"), AUTO.values(), ids=AUTO)
def test_code_beside_the_weights_neither_runs_nor_asks(tmp_path, config, auto):
    a, b = bert(tmp_path / "a"), bert(tmp_path / "b", words=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), seed=1)
    for folder in (a, b):
        with_code(folder, config, auto)
    (b / "vocab.txt").write_text((a / "vocab.txt").read_text() + "\n")
    words = [
        "merge",
        a,
        b,
        "--groups",
        "feed_forward",
        "--data",
        sentences(tmp_path / "texts"),
        "--out",
        tmp_path / "o",
    ]
    done = CliRunner().invoke(app, [str(word) for word in words], input="y\n" * 9)
    assert "[y/N]" not in done.output
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "ran").exists()
    assert all("auto_map" not in path.read_text() for path in (tmp_path / "o").glob("*.json"))
