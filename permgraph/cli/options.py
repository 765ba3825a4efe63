"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

A = Annotated[str, typer.Argument(metavar="A", help="The reference: a folder, a hub id, timm:NAME or python:….")]
B = Annotated[str, typer.Argument(metavar="B", help="The model that is moved.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Calibration data: a folder of audio, images or text; python:package.module:function, which returns an "
        "iterable of batches; or synthetic, if there is none: texts that the models write themselves, or noise.",
    ),
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Read at most this many samples of --data, or batches of python:….")
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help="How to match units: correlation, weights, learned (by gradient on --data, for --kinds all) or an "
        "installed matcher.  [default: correlation with --data, else weights]",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="With --method learned, how many batches are learned from.  [default: 400]"),
]
MixOption = Annotated[
    float | None,
    typer.Option(
        "--mix",
        metavar="SHARE",
        help="Instead of --method: weights and activations combined, with this share of activations, from 0 to 1.",
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(
        "--loss",
        metavar="LOSS",
        help="Draw the loss between A and B in the report: python:module:function, called with a model; or 'own', a "
        "causal language model's own loss on the texts of --data. The merge is made at every point of two curves: "
        "with +refit and the like that takes long.",
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(
        "--groups",
        metavar="ROLE,...",
        help="Move only groups of these roles, e.g. conv,feed_forward,attention.  [default: all]",
    ),
]
KINDS = (
    "What may move: permutation; signed, with signs; or all: scales, rotations and invertible maps too, with norms "
    "folded into the layers that read them.  "
)
Kinds = Annotated[str | None, typer.Option("--kinds", metavar="KINDS", help=KINDS + "[default: permutation]")]
KindsCompared = Annotated[str | None, typer.Option("--kinds", metavar="KINDS", help=KINDS + "[default: all]")]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help="Write float32, float16, bfloat16 or float64.  [default: each tensor as A has it]"),
]
MaxShardSize = Annotated[
    str | None,
    typer.Option(
        "--max-shard-size",
        metavar="SIZE",
        help="Split the weights into files of at most this size, e.g. 2GB.  [default: as A's files are]",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Stay within this much memory, e.g. 6GB: read weights when they are needed, once for several batches.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A and B are files of weights for this model: python:package.module:function or timm:NAME.",
    ),
]
HeadsOption = Annotated[
    str | None,
    typer.Option(
        "--heads",
        metavar="HOW",
        help="What to do with heads, such as classifiers: merge; first, keep A's; or both, write B's too, moved. "
        " [default: merge where they are alike, else first]",
    ),
]
Enlarge = Annotated[
    bool,
    typer.Option(
        "--enlarge",
        help="B may have fewer hidden units, heads and layers than A: it is padded with ones that have no effect.",
    ),
]
Carry = Annotated[
    list[Path] | None,
    typer.Option(
        "--carry",
        metavar="ADAPTER",
        help="The folder of a PEFT adapter of B: it is moved with B and written to a folder of its name in the output. "
        "May be repeated.",
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")]
MaybeA = Annotated[
    str | None, typer.Argument(metavar="A", help="The reference: a folder, a hub id, timm:NAME or python:….")
]
MaybeB = Annotated[str | None, typer.Argument(metavar="B", help="The model that is moved.")]
MaybeOut = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The folder to write.")]
