"""What `permgraph COMMAND --help` shows at its end; every line is parsed by the tests."""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "inspect": (
        ("What permutes in a checkpoint; its weights are not read", "permgraph inspect checkpoints/hubert"),
        ("The same as a page for the browser", "permgraph inspect checkpoints/hubert --html groups.html"),
        ("The specification as JSON, for a program", "permgraph inspect timm:resnet50 --json spec.json"),
    ),
    "explain": (
        (
            "Why may this axis not move, or with what does it?",
            "permgraph explain bert encoder.layer.0.output.dense.weight:0",
        ),
        ("Why do these two move together?", "permgraph explain llama model.norm.weight:0 lm_head.weight:1"),
    ),
    "verify": (
        ("Prove every group of a model, in float64", "permgraph verify checkpoints/hubert"),
        ("More random elements, from another seed", "permgraph verify checkpoints/hubert --trials 10 --seed 7"),
    ),
    "align": (
        ("By the weights alone", "permgraph align speech music --out music-aligned"),
        (
            "By what units do on data, on a GPU",
            "permgraph align speech music --data clips --device cuda --out music-aligned",
        ),
        ("Only the feed-forward layers", "permgraph align speech music --groups feed_forward --out music-aligned"),
    ),
    "merge": (
        ("Nine parts speech, one part music", "permgraph merge speech music --data clips --weight 0.9 --out merged"),
        ("Two BERTs, matched on text", "permgraph merge bert-a bert-b --data texts --out merged"),
        ("Three models at equal shares", "permgraph merge a b c --out merged"),
        (
            "Spherical, and only what matched by weights",
            "permgraph merge a b --method weights --merge slerp --out merged",
        ),
        (
            "Two language models, and in the report the loss between them",
            "permgraph merge llama-a llama-b --data texts --loss own --out merged",
        ),
        ("The same merge again, from its recipe", "permgraph merge --config merged/recipe.toml --out again"),
    ),
    "adapters": (
        ("What is installed, and from which package", "permgraph adapters"),
        ("The same for a program", "permgraph adapters --json"),
    ),
    "demo": (
        ("Merge a speech and a music encoder, offline", "permgraph demo"),
        ("Keep what it writes", "permgraph demo --out out/demo"),
    ),
}
