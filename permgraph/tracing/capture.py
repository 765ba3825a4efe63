"""A model and example inputs -> one torch.fx graph over ATen operations, with parameters and inputs named."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from permgraph.algebra.relations import Source
from permgraph.errors import CaptureError, SpecMismatchError, described
from permgraph.tracing.advice import advice, source_line
from permgraph.tracing.exporting import export
from permgraph.tracing.forwards import PREFIX, Forwards
from permgraph.tracing.nesting import require_no_derivatives
from permgraph.tracing.places import leaves_with_places
from permgraph.tracing.plain_classes import called, register_classes
from permgraph.tracing.quiet import quiet
from permgraph.tracing.sharing import aliases, one_tensor
from permgraph.tracing.wrappers import require_plain

WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
INLINED = ("wrap_with_set_grad_enabled", "wrap_with_autocast")


@dataclass(frozen=True)
class Feed:
    """The meaning of a placeholder of the graph.

    `kind` is parameter, buffer (persistent), constant, or input; `name` is the name in the state dict, or, for
    inputs, the place in (args, kwargs).
    """

    kind: str
    name: str


@dataclass(frozen=True)
class Program:
    """A traced forward pass.

    `feeds` maps placeholder names to what they are, in order; `constants` holds non-persistent buffers and
    lifted tensors; `names` maps every key of the state dict to the one under which the graph knows its tensor (tied
    weights have several keys); `outputs` are the names of the output leaves, `outputs_spec` their places in what the
    model returns; `device` is the model's.
    """

    graph: fx.GraphModule
    feeds: Mapping[str, Feed]
    constants: Mapping[str, Tensor]
    names: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    parameters: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs_spec: pytree.TreeSpec
    outputs_spec: pytree.TreeSpec
    device: torch.device

    @property
    def inputs(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The place in (args, kwargs) and the shape of each tensor that was traced, in order."""
        places = [node for node in self.graph.graph.nodes if node.op == "placeholder"]
        return tuple(
            (self.feeds[node.name].name, tuple(node.meta["val"].shape))
            for node in places
            if self.feeds[node.name].kind == "input" and isinstance(node.meta.get("val"), Tensor)
        )


def capture(model: nn.Module, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Program:
    """Trace `model` on example inputs with `torch.export`; the model is not changed.

    Works on any device, `meta` included. Raises CaptureError, saying what to change, where the model is in training
    mode or cannot be exported.
    """
    owner, model, key = _unwrapped(require_plain(model))
    _require_eval(model)
    real = {name: buffer for name, buffer in model.named_buffers() if not buffer.is_meta}
    model = _twin(model)
    device = device_of(model)
    args, options = as_args(args), dict(kwargs or {})
    register_classes((args, options))
    args, options = moved((args, options), device)
    with quiet(), torch.no_grad():
        exported = _exported(model, args, options)
    graph = _inline(exported.graph_module)
    state = {k: tensor for k, tensor in owner.state_dict(keep_vars=True).items() if isinstance(tensor, Tensor)}
    names, shapes = one_tensor(state), {k: tuple(tensor.shape) for k, tensor in state.items()}
    parameters = tuple(name for name, _ in owner.named_parameters(remove_duplicate=False) if name in names)
    _tell_apart(graph.graph, names)
    lifted = {k: v for k, v in exported.constants.items() if isinstance(v, Tensor)}
    require_no_derivatives(graph.graph, lifted)
    constants = {k: real.get(k, v) if v.is_meta else v for k, v in lifted.items()}
    shared = {key(name): names[k] for name, k in aliases(lifted, state).items()}
    feeds = _feeds(exported, graph.graph, shared | names, parameters, key)
    inward, outward = exported.call_spec.in_spec, exported.call_spec.out_spec
    assert outward is not None
    places = _output_names(exported, outward)
    return Program(graph, feeds, constants, names, shapes, parameters, places, inward, outward, device)


def _exported(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    try:
        return export(model, args, kwargs)
    except Exception as error:
        if _returns_new_class(model, args, kwargs):
            return _exported(model, args, kwargs)
        raise CaptureError(advice(model, error, args, kwargs)) from error


def _returns_new_class(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a model returns a dataclass that PyTorch did not know before; now it does."""
    try:
        return register_classes(called(model, args, kwargs))
    except Exception:  # whatever it raises, the trace has said why
        return False


def _require_eval(model: nn.Module) -> None:
    """Raise CaptureError, naming the part, for a model of which any part is in training mode.

    A program from `torch.export` has no mode: the mode of its model is part of its graph.
    """
    if isinstance(model, torch.fx.GraphModule) and "eval" in vars(model):
        return
    for path, part in model.named_modules():
        if part.training:
            what = f"{path} ({type(part).__name__})" if path else type(part).__name__
            raise CaptureError(
                f"{what} is in training mode: call model.eval(), which sets all parts, before tracing it"
            )


def _unwrapped(model: nn.Module) -> tuple[nn.Module, nn.Module, Callable[[str], str]]:
    """The module with the names of the state dict, the module to export, and a map from the names of the latter.

    A model behind `torch.compile` or a data-parallel wrapper is exported without it; `Forwards` is exported as it is.
    """
    if isinstance(model, Forwards):
        return model.model, model, lambda name: name.removeprefix(PREFIX)
    for wrapper, attribute in WRAPPERS.items():
        if type(model).__name__ == wrapper:
            return model, getattr(model, attribute), f"{attribute}.".__add__
    return model, model, str


def _twin(model: nn.Module) -> nn.Module:
    """A copy that shares all tensors, since `torch.export` replaces the tensors of the module that it traces.

    Another thread may be using the model. If a model is on `meta` except for a few tensors (a constructor like
    `torch.Tensor(n)` ignores `with torch.device("meta")`), the copy is completely on `meta`. A model that cannot be
    copied is traced itself; CaptureError is raised if that would change it.
    """
    tensors = [*model.parameters(), *model.buffers()]
    mixed = len({tensor.is_meta for tensor in tensors}) == 2
    held = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    shared = {id(t): _on_meta(t) if mixed else t for t in [*held, *tensors]}
    caching = any(map(_caches, model.modules()))
    try:
        twin = copy.deepcopy(model, shared)
    except Exception as error:  # whatever a part of it does when it is copied
        if mixed or caching:
            cure = "set its config.use_cache to False" if caching else "move it to one device"
            raise CaptureError(f"{type(model).__name__} cannot be copied ({described(error)}): {cure}") from error
        return model
    for module in filter(_caches, twin.modules()):
        vars(module)["config"].use_cache = False
    return twin


def _on_meta(tensor: Tensor) -> Tensor:
    on_meta = tensor.to("meta")
    return nn.Parameter(on_meta, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else on_meta


def _caches(module: nn.Module) -> bool:
    return getattr(vars(module).get("config"), "use_cache", False) is True


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter; the CPU for a model without any."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def moved(inputs: Any, device: torch.device) -> Any:
    """The same inputs with every tensor on `device`."""
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), inputs)


def as_args(args: Any) -> tuple[Any, ...]:
    """Positional inputs as a tuple; a tensor alone is the only one."""
    return (args,) if isinstance(args, Tensor) else tuple(args)


def _inline(module: fx.GraphModule) -> fx.GraphModule:
    """Open the sub-graphs that only switch gradients or autocast."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.op != "call_function" or getattr(node.target, "__name__", str(node.target)) not in INLINED:
            continue
        sub = next(arg for arg in node.args if isinstance(arg, fx.Node) and arg.op == "get_attr")
        operands = node.args[list(node.args).index(sub) + 1 :]
        inner = _inline(getattr(module, str(sub.target)))
        places = [n for n in inner.graph.nodes if n.op == "placeholder"]
        mapping = dict(zip(places, operands, strict=True))
        with graph.inserting_before(node):
            results = graph.graph_copy(inner.graph, mapping)
        for user in list(node.users):
            user.replace_all_uses_with(results[user.args[1]])  # type: ignore[index]
            graph.erase_node(user)
        graph.erase_node(node)
    module.recompile()
    return module


def _tell_apart(graph: fx.Graph, names: Mapping[str, str]) -> None:
    """Rename nodes that have the name of a state-dict entry: a trace has one name space for both."""
    for node in graph.nodes:
        while node.name in names:
            node._rename(f"{node.name}_value")
        if node.op == "placeholder":
            node.target = node.name


def _feeds(
    exported: torch.export.ExportedProgram,
    graph: fx.Graph,
    names: Mapping[str, str],
    parameters: Collection[str],
    key: Callable[[str], str],
) -> dict[str, Feed]:
    inputs = iter(_input_name(path) for path, _ in leaves_with_places(exported.example_inputs))
    feeds: dict[str, Feed] = {}
    places = [node.name for node in graph.nodes if node.op == "placeholder"]
    for name, spec in zip(places, exported.graph_signature.input_specs, strict=True):
        if spec.kind is InputKind.USER_INPUT:
            feeds[name] = Feed("input", next(inputs))
        elif (entry := key(str(spec.target))) in names:
            feeds[name] = Feed("parameter" if names[entry] in parameters else "buffer", names[entry])
        else:
            feeds[name] = Feed("constant", str(spec.target))
    return feeds


def _input_name(path: tuple[Any, ...]) -> str:
    side, *rest = path
    text = "".join(str(key) for key in rest)
    return ("args" if getattr(side, "idx", 0) == 0 else "kwargs") + text


def _output_names(exported: torch.export.ExportedProgram, tree: pytree.TreeSpec) -> tuple[str, ...]:
    """The place of each output leaf in what the model returns."""
    specs = exported.graph_signature.output_specs
    count = sum(spec.kind is OutputKind.USER_OUTPUT for spec in specs)
    marked = pytree.tree_unflatten(list(range(count)), tree)
    return tuple("".join(str(key) for key in path) or "output" for path, _ in leaves_with_places(marked))


def require_same(a: Program, b: Program) -> None:
    """Raise SpecMismatchError, naming the first difference, unless two programs compute the same."""
    for one, other in zip_longest(a.graph.graph.nodes, b.graph.graph.nodes):
        left, right = ("nothing" if node is None else node.format_node() or node.name for node in (one, other))
        if left != right:
            where = source_of(one if one is not None else other).module or "the model"
            raise SpecMismatchError(
                f"the two models compute differently in {where}: A has {left}, B has {right}; "
                "align models of one configuration"
            )
    for name, tensor in a.constants.items():
        if name not in b.constants or not _equal(tensor, b.constants[name]):
            raise SpecMismatchError(
                f"the two models differ in the constant {name}: align two models of one configuration"
            )


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and (a.is_meta or b.is_meta or torch.equal(a, b.to(a.device)))


def source_of(node: fx.Node) -> Source:
    """The operation, the module path and the source line of a node."""
    stack = node.meta.get("nn_module_stack") or {}
    module = next(reversed([path for path, _ in stack.values()]), "") if stack else ""
    return Source(op_name(node.target), module, source_line(node.meta.get("stack_trace") or ""))


@functools.cache
def op_name(target: Any) -> str:
    """`aten.linear` for `torch.ops.aten.linear.default`."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target.overloadpacket)
    return getattr(target, "__name__", str(target))
