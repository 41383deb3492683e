"""Everything in a graph of operations that depends on no argument, computed once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from torch_cormorant.errors import ExportError

__all__ = ["fold_constants"]

# without gradients these give what they are given
_IDENTITIES = (torch.ops.aten.detach.default, torch.ops.aten.alias.default)


def fold_constants(graph: GraphModule) -> GraphModule:
    """Replace what does not depend on the arguments by its value.

    A network with frozen weights lays out and transposes the same weights, gathers the
    same rows of atomic numbers and counts the same neighbours in every call. In a
    traced graph that is a third of all operations.

    Args:
        graph: A traced graph of operations without side effects; it is changed.

    Returns:
        The graph, with the values as buffers of its own.

    Raises:
        ExportError: An operation changes a tensor in place.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> w = torch.ones(3)
        >>> graph = make_fx(lambda x: x + (w * 2).sum())(torch.zeros(2))
        >>> sum(node.op == "call_function" for node in graph.graph.nodes)
        3
        >>> folded = fold_constants(graph)
        >>> sum(node.op == "call_function" for node in folded.graph.nodes)
        1
    """
    _check_pure(graph.graph)
    varying = _varying(graph.graph)
    values: dict[Node, Any] = {}
    for node in graph.graph.nodes:
        if node not in varying and node.op != "output":
            values[node] = _value(graph, node, values)
    for node, value in values.items():
        wanted = any(user in varying or user.op == "output" for user in node.users)
        if wanted and isinstance(value, Tensor):
            _keep(graph, node, value)
    for node in graph.graph.nodes:
        if node.target in _IDENTITIES:
            node.replace_all_uses_with(node.args[0])
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _check_pure(graph: Graph) -> None:
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            msg = (
                f"{node.target} changes a tensor in place, so nothing can be folded; "
                "use the model itself, traced=False"
            )
            raise ExportError(msg)


def _varying(graph: Graph) -> set[Node]:
    """The arguments, and what is computed from them."""
    found: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(n in found for n in node.all_input_nodes):
            found.add(node)
    return found


def _value(graph: GraphModule, node: Node, values: dict[Node, Any]) -> Any:
    if node.op == "get_attr":
        found: Any = graph
        for part in str(node.target).split("."):
            found = getattr(found, part)
        return found
    args = map_arg(node.args, values.__getitem__)
    kwargs = map_arg(node.kwargs, values.__getitem__)
    with torch.no_grad():
        return node.target(*args, **kwargs)  # type: ignore[operator]


def _keep(graph: GraphModule, node: Node, value: Tensor) -> None:
    name = f"folded_{node.name}"
    graph.register_buffer(name, value.detach().clone())
    with graph.graph.inserting_before(node):
        kept = graph.graph.get_attr(name)
    node.replace_all_uses_with(kept)
