"""The examples at the end of `permgraph COMMAND --help`; the tests parse every line."""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "inspect": (
        ("The permutation groups of a checkpoint; its weights are not read", "permgraph inspect checkpoints/hubert"),
        ("The same as an interactive page", "permgraph inspect checkpoints/hubert --html groups.html"),
        ("The specification as JSON", "permgraph inspect timm:resnet50 --json spec.json"),
    ),
    "explain": (
        (
            "Why is this axis pinned, or what does it move with?",
            "permgraph explain bert encoder.layer.0.output.dense.weight:0",
        ),
        ("Why do these two move together?", "permgraph explain llama model.norm.weight:0 lm_head.weight:1"),
    ),
    "verify": (
        ("Prove every group of a model, in float64", "permgraph verify checkpoints/hubert"),
        ("More random elements, from another seed", "permgraph verify checkpoints/hubert --trials 10 --seed 7"),
    ),
    "align": (
        ("Match by weights alone", "permgraph align speech music --out music-aligned"),
        (
            "Match by activations on data, on a GPU",
            "permgraph align speech music --data clips --device cuda --out music-aligned",
        ),
        (
            "Move the feed-forward layers alone",
            "permgraph align speech music --groups feed_forward --out music-aligned",
        ),
    ),
    "merge": (
        ("90 % speech, 10 % music", "permgraph merge speech music --data clips --weight 0.9 --out merged"),
        ("Two BERTs, matched on text", "permgraph merge bert-a bert-b --data texts --out merged"),
        ("Three models with equal shares", "permgraph merge a b c --out merged"),
        (
            "Matched by weights, merged by spherical interpolation",
            "permgraph merge a b --method weights --merge slerp --out merged",
        ),
        (
            "Two language models, with the loss between them in the report",
            "permgraph merge llama-a llama-b --data texts --loss own --out merged",
        ),
        ("Repeat a merge from its recipe", "permgraph merge --config merged/recipe.toml --out again"),
    ),
    "compare": (
        ("Is B a copy of A, a relative, or independent?", "permgraph compare bert-a bert-b"),
        ("The same with pictures, and for a program", "permgraph compare bert-a bert-b --html alike.html --json"),
    ),
    "adapters": (
        ("Everything that is installed, and the package it comes from", "permgraph adapters"),
        ("The same for a program", "permgraph adapters --json"),
    ),
    "demo": (
        ("Merge a speech and a music encoder, offline", "permgraph demo"),
        ("Keep the results", "permgraph demo --out out/demo"),
    ),
}
