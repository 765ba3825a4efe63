"""An element planted in a copy of a model, and what of it alignment undoes."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from judge import distance, doubled
from pairs import spread
from torch import Tensor, nn
from zoo_rows import Case

import permgraph as pg
from permgraph.symmetry.derivation.folding import separated

BATCHES = 16
IMAGES = 4  # dimensions
MANY = 8192
"""Of more units than this, some are let through by ReLU on the same few frames alone: ten times the batches."""


def wrong(case: Case, spec: pg.PermutationSpec, method: str) -> list[str]:
    """The entries of a planted copy's state dict that alignment by `method` does not bring back to the last bit."""
    count = BATCHES * (10 if any(group.size > MANY for group in spec.groups) else 1)
    data = batches(case.model, case.args, case.kwargs, count)
    a = spread(copy.deepcopy(case.model))
    if [value.dim() for value in case.args] == [IMAGES]:
        centre(a, torch.cat([image for (image,) in data]))
    b = copy.deepcopy(a)
    b.load_state_dict(spec.apply(spec.sample(1), a.state_dict()))
    heard = data if method == "correlation" else None
    found = pg.align(a, b, heard, args=case.args, kwargs=case.kwargs, spec=spec, method=method)
    moved, wanted = found.state_dict, a.state_dict()
    return [name for name in wanted if not torch.equal(moved[name], wanted[name])]


def change(case: Case, method: str) -> float:
    """How far a copy is from A that was moved by an element of all kinds and matched again, after norms are folded.

    The largest error of a tensor, relative to its largest entry, or what the merge of both changes in A's outputs,
    whichever is larger; in float64.
    """
    model, (args, kwargs) = spread(copy.deepcopy(case.model).double()), doubled((case.args, case.kwargs))
    folded = pg.fold(model, args, kwargs, untie=True)
    a, b = separated(model, folded.untied), separated(model, folded.untied)
    b.load_state_dict(folded.state_dict)
    spec = pg.derive(b, args, kwargs, kinds="all")
    b.load_state_dict(spec.apply(spec.sample(1), b.state_dict()))
    data = batches(model, args, kwargs, BATCHES) if method == "correlation" else None
    found = pg.align(a, b, data, args=args, kwargs=kwargs, kinds="all", method=method)
    pairs = [(tensor, found.state_dict[name]) for name, tensor in found.reference.items() if tensor.any()]
    off = max((float((one - other).abs().max() / one.abs().max()) for one, other in pairs), default=0.0)
    with torch.no_grad():
        expected = a(*args, **kwargs)
        a.load_state_dict(pg.merge(a, b, alignment=found))
        return max(off, distance(expected, a(*args, **kwargs)))


def centre(model: nn.Module, images: Tensor) -> None:
    """Gives it biases, and statistics of BatchNorm, by which no unit is on one side of 0 on all of this data.

    One pass in which every layer takes its outputs' mean off its bias before the next one sees them: data-dependent
    initialisation (arXiv 1511.06856). Training leaves few ReLU units dead, random weights many.
    """

    def off_the_mean(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        dim = 1 if isinstance(layer, nn.modules.conv._ConvNd) else -1
        mean = output.transpose(0, dim).flatten(1).mean(1)
        layer.bias -= mean
        return output - mean.view([-1 if k == dim % output.dim() else 1 for k in range(output.dim())])

    hooks = []
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
            module.train()
        elif isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) and module.bias is not None:
            hooks.append(module.register_forward_hook(off_the_mean))
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    model.eval()


def batches(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], count: int) -> list[Any]:
    """As many inputs like these, drawn anew, by keyword where there are keywords; masks stay, for none may hide all."""
    if kwargs:
        names = list(inspect.signature(model.forward).parameters)
        return [
            {k: v if "mask" in k else another(v, n) for k, v in (dict(zip(names, args, strict=False)) | kwargs).items()}
            for n in range(count)
        ]
    return [tuple(another(value, number) for value in args) for number in range(count)]


def another(value: Any, seed: int) -> Any:
    """Inputs like these, drawn anew: token ids from those that occur, floats from normal distributions.

    Their deviations differ, so that ReLU lets every unit through somewhere.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(value, Tensor) and value.is_floating_point():
        return (torch.randn(value.shape, generator=generator) * (1 + seed % 4)).to(value.dtype)
    if isinstance(value, Tensor) and value.dtype == torch.int64:
        return torch.randint(int(value.max()) + 1, value.shape, generator=generator)
    return value
