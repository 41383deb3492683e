r"""Operators that bring their gradient and the gradient of that as kernels.

An operator :math:`y = f(x)` has the backward map :math:`\bar x = b(x, \bar y)`. For a
cotangent v of :math:`\bar x` the derivative of the backward map is

.. math::
    \frac{d}{d\epsilon} b(x + \epsilon v, \bar y)
    \quad\text{with respect to } x, \qquad
    \frac{d}{d\epsilon} f(x + \epsilon v)
    \quad\text{with respect to } \bar y,

so that a kernel that computes with (value, tangent) gives both in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from torch_cormorant.ops.operands import check_count, check_like
from torch_cormorant.ops.operator import Operator, applied, asked_for, is_direct
from torch_cormorant.ops.pullback import pulled_back
from torch_cormorant.ops.tensors import fakes, plain
from torch_cormorant.ops.transforms import refuse_rows

Some = list[Tensor | None]


class Problem(NamedTuple):
    """What an operator is given.

    Attributes:
        operands: Tensors that it can be differentiated by.
        constants: Others, such as indices.
        sizes: Whole numbers.
        numbers: Other numbers.
        made: What the kernel prepared for these tensors when it checked them.
    """

    operands: Sequence[Tensor]
    constants: Sequence[Tensor]
    sizes: Sequence[int]
    numbers: Sequence[float]
    made: Any = None


class Kernel(Protocol):
    """What computes an operator; all tensors are contiguous and new."""

    def results(self, p: Problem) -> list[Tensor]:
        """Results without values."""

    def prepare(self, p: Problem) -> Any:
        """Check the operands; what to tell the kernel of them, without tensors."""

    def composed(self, p: Problem) -> list[Tensor]:
        """Results by operations of PyTorch, which have derivatives of any order."""

    def forward(self, p: Problem) -> list[Tensor]:
        """Results."""

    def backward(self, p: Problem, grads: Some, need: Sequence[bool]) -> Some:
        """Gradients of the operands that need one.

        Args:
            p: The problem.
            grads: Gradients of the results, None: zero.
            need: For each operand.
        """

    def reached(
        self, sizes: Sequence[int], given: Sequence[bool], need: Sequence[bool]
    ) -> list[bool]:
        """Operands that need a gradient in ``double_backward`` and have one but zero.

        Args:
            sizes: Those of the problem.
            given: Which tangents there are.
            need: For each operand. A map that is linear in one of them has gradients
                that do not depend on it, unless there are tangents of others.
        """

    def double_backward(
        self,
        p: Problem,
        grads: Some,
        tangents: Some,
        need: Sequence[bool],
        need_grads: Sequence[bool],
    ) -> tuple[Some, Some]:
        """Gradients of ``backward``.

        Args:
            p: The problem.
            grads: Its argument.
            tangents: Cotangents of what it returned, None: zero.
            need: For each operand.
            need_grads: For each of grads.

        Returns:
            With respect to the operands, and to grads.
        """


_PROBLEM = "Tensor[] operands, Tensor[] constants, int[] sizes, float[] numbers"


class _Family:
    """The three operators of one kernel."""

    def __init__(self, name: str, kernel: Kernel) -> None:
        self.name, self.kernel = name, kernel
        self.double = Operator(
            f"{name}_double_backward",
            f"({_PROBLEM}, Tensor[] grads, bool[] there, Tensor[] tangents, "
            "bool[] given, bool[] need, bool[] need_grads) -> Tensor[]",
            run=self._run_double,
            fake=self._fake_double,
            keep=self._keep_double,
            backward=self._third,
        )
        self.gradient = Operator(
            f"{name}_backward",
            f"({_PROBLEM}, Tensor[] grads, bool[] there, bool[] need) -> Tensor[]",
            run=self._run_gradient,
            fake=self._fake_gradient,
            keep=self._keep_gradient,
            backward=self._second,
        )
        self.value = Operator(
            name,
            f"({_PROBLEM}) -> Tensor[]",
            run=self._run,
            fake=lambda *p: kernel.results(Problem(*p)),
            keep=self._keep,
            backward=self._first,
        )

    def __call__(
        self, operands: Any, constants: Any, sizes: Any, numbers: Any
    ) -> list[Tensor]:
        """Compute it, by the shortest way that is allowed."""
        if is_direct(operands) and is_direct(constants):
            found = _Value.apply(  # type: ignore[no-untyped-call]
                self, len(operands), (sizes, numbers), *operands, *constants
            )
            return list(found)
        results: list[Tensor] = self.value(operands, constants, sizes, numbers)
        return results

    # ---------------------------------------------------------------- the kernel

    def _run(self, *given: Any) -> list[Tensor]:
        return self.kernel.forward(_contiguous(given))

    def _run_gradient(self, *given: Any) -> list[Tensor]:
        p = _contiguous(given[:4])
        grads, there, need = given[4:]
        check_count("need", need, len(p.operands))
        full = _present("grads", grads, there, self.kernel.results(p))
        return _filled(self.kernel.backward(p, full, need), p.operands)

    def _run_double(self, *given: Any) -> list[Tensor]:
        p = _contiguous(given[:4])
        grads, there, tangents, present, need, need_grads = given[4:]
        results = self.kernel.results(p)
        check_count("need", need, len(p.operands))
        check_count("need_grads", need_grads, len(results))
        full = _present("grads", grads, there, results)
        changes = _present("tangents", tangents, present, p.operands)
        found, dgrads = self.kernel.double_backward(p, full, changes, need, need_grads)
        return _filled([*found, *dgrads], [*p.operands, *results])

    # ------------------------------------------------------------ without values

    def _fake_gradient(self, *given: Any) -> list[Tensor]:
        return fakes(given[0], given[6])

    def _fake_double(self, *given: Any) -> list[Tensor]:
        results = self.kernel.results(Problem(*given[:4]))
        return fakes([*given[0], *results], [*given[8], *given[9]])

    # ------------------------------------------------------------------ autograd

    def _keep(self, ctx: Any, inputs: tuple[Any, ...], output: object) -> None:  # noqa: ARG002
        ctx.save_for_backward(*inputs[0], *inputs[1])
        ctx.split, ctx.settings = len(inputs[0]), inputs[2:]
        ctx.set_materialize_grads(False)

    def _first(self, ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
        saved, split = ctx.saved_tensors, ctx.split
        need: Sequence[bool] = list(ctx.needs_input_grad[0])
        parts: Some = [None] * split
        if any(grad is not None for grad in grads):
            p = (list(saved[:split]), list(saved[split:]), *ctx.settings)
            parts = self.gradient(*p, *_marked(grads, saved[0]), need)
        none = map(_nothing, ctx.settings)
        return _chosen(parts, need), [None] * (len(saved) - split), *none

    def _keep_gradient(self, ctx: Any, inputs: tuple[Any, ...], output: object) -> None:  # noqa: ARG002
        ctx.save_for_backward(*inputs[0], *inputs[1], *inputs[4])
        ctx.splits = (len(inputs[0]), len(inputs[0]) + len(inputs[1]))
        ctx.settings, ctx.there, ctx.need = inputs[2:4], inputs[5], inputs[6]
        ctx.set_materialize_grads(False)

    def _second(self, ctx: Any, cotangents: Sequence[Tensor | None]) -> tuple[Any, ...]:
        saved, (one, two) = ctx.saved_tensors, ctx.splits
        operands, constants, grads = saved[:one], saved[one:two], saved[two:]
        need, need_grads = list(ctx.needs_input_grad[0]), list(ctx.needs_input_grad[4])
        need_grads = [a and b for a, b in zip(need_grads, ctx.there, strict=True)]
        wanted = [
            u if there else None for u, there in zip(cotangents, ctx.need, strict=True)
        ]
        parts: Some = [None] * (one + len(grads))
        if any(u is not None for u in wanted):
            given = [u is not None for u in wanted]
            need = self.kernel.reached(ctx.settings[0], given, need)
            parts = self.double(
                list(operands),
                list(constants),
                *ctx.settings,
                list(grads),
                ctx.there,
                *_marked(wanted, saved[0]),
                need,
                need_grads,
            )
        found, dgrads = _chosen(parts[:one], need), _chosen(parts[one:], need_grads)
        none = map(_nothing, ctx.settings)
        return (found, [None] * len(constants), *none, dgrads, None, None)

    def _keep_double(self, ctx: Any, inputs: tuple[Any, ...], output: object) -> None:  # noqa: ARG002
        operands, constants, _, _, grads, _, tangents = inputs[:7]
        lists = [operands, constants, grads, tangents]
        ctx.save_for_backward(*(tensor for some in lists for tensor in some))
        ctx.counts, ctx.settings = [*map(len, lists)], inputs[2:4]
        ctx.there, ctx.given = inputs[5], inputs[7]
        ctx.set_materialize_grads(False)

    def _third(self, ctx: Any, weights: Sequence[Tensor | None]) -> tuple[Any, ...]:
        """Derivatives of what ``double_backward`` gives, from the composed form."""
        operands, constants, grads, tangents = _parted(ctx.saved_tensors, ctx.counts)
        one, two = len(operands), len(operands) + len(grads)

        def value(*x: Tensor) -> list[Tensor]:
            return self.kernel.composed(Problem(x, constants, *ctx.settings))

        def first(*x: Tensor) -> Some:
            return pulled_back(value, x[:one], _only(x[one:], ctx.there))

        def second(*x: Tensor) -> Some:
            return pulled_back(first, x[:two], _only(x[two:], ctx.given))

        parts = pulled_back(second, [*operands, *grads, *tangents], weights)
        none = map(_nothing, ctx.settings)
        of_tensors = (parts[:one], [None] * len(constants), *none)
        return (*of_tensors, parts[one:two], None, parts[two:], None, None, None)


class _Value(torch.autograd.Function):
    """The operator on plain tensors, without dispatcher and lists."""

    @staticmethod
    def forward(
        ctx: Any, family: _Family, count: int, settings: Any, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*tensors)
        ctx.family, ctx.count, ctx.settings = family, count, settings
        ctx.set_materialize_grads(False)
        looks = looks_of(tensors)
        full = [*map(plain, tensors)] if looks is None else tensors
        p = Problem(full[:count], full[count:], *settings)
        p = p._replace(made=family.kernel.prepare(p))
        ctx.seen = None if looks is None else Seen(p.made, looks)
        return tuple(family.kernel.forward(p))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        refuse_rows(grads)
        family, count, tensors = ctx.family, ctx.count, ctx.saved_tensors
        need, none = asked_for(ctx, ctx.needs_input_grad[3:])[:count], (None,) * 3
        there = [grad is not None for grad in grads]
        if not any(there) or not any(need):
            return (*none, *[None] * len(tensors))
        if is_direct(grads):
            given = [grad for grad in grads if grad is not None]
            marks = (len(tensors), need, there, ctx.seen)
            parts = applied(
                _Gradient, family, count, ctx.settings, marks, *tensors, *given
            )
        else:
            p = (list(tensors[:count]), list(tensors[count:]), *ctx.settings)
            found = family.gradient(*p, *_marked(grads, tensors[0]), need)
            parts = _chosen(found, need)
        return (*none, *parts, *[None] * (len(tensors) - count))


class _Gradient(torch.autograd.Function):
    """Its gradient in the same form; the pass has checked what arrives."""

    @staticmethod
    def forward(
        ctx: Any,
        family: _Family,
        count: int,
        settings: Any,
        marks: Any,
        *tensors: Tensor,
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(*tensors)
        ctx.family, ctx.count, ctx.settings, ctx.marks = family, count, settings, marks
        ctx.set_materialize_grads(False)
        end, need, there, seen = marks
        p = _known(seen, tensors[:count], tensors[count:end], settings)
        grads = iter(tensors[end:])
        full = [plain(next(grads)) if given else None for given in there]
        return tuple(family.kernel.backward(p, full, need))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        refuse_rows(cotangents)
        family, count, tensors = ctx.family, ctx.count, ctx.saved_tensors
        end, _, there, seen = ctx.marks
        flags = asked_for(ctx, ctx.needs_input_grad[4:])
        given = [u is not None for u in cotangents]
        need = family.kernel.reached(ctx.settings[0], given, flags[:count])
        of_grads, grads = iter(flags[end:]), iter(tensors[end:])
        need_grads = [mark and next(of_grads) for mark in there]
        full = [plain(next(grads)) if mark else None for mark in there]
        none = (None,) * 4
        if not any(given) or not (any(need) or any(need_grads)):
            return (*none, *[None] * len(tensors))
        if torch.is_grad_enabled() or not is_direct(cotangents):
            p = (list(tensors[:count]), list(tensors[count:end]), *ctx.settings)
            marked = (*_marked(full, tensors[0]), *_marked(cotangents, tensors[0]))
            parts = family.double(*p, *marked, need, need_grads)
            found, dgrads = parts[:count], parts[count:]
        else:
            changes = [None if u is None else plain(u) for u in cotangents]
            whole = _known(seen, tensors[:count], tensors[count:end], ctx.settings)
            found, dgrads = family.kernel.double_backward(
                whole, full, changes, need, need_grads
            )
        return (
            *none,
            *_chosen(found, need),
            *[None] * (end - count),
            *(
                part if want else None
                for part, want, mark in zip(dgrads, need_grads, there, strict=True)
                if mark
            ),
        )


def twice_differentiable(name: str, kernel: Kernel) -> Callable[..., list[Tensor]]:
    """Register an operator with its two derivatives.

    Args:
        name: In the namespace ``torch_cormorant``; ``_backward`` and
            ``_double_backward`` are appended for the derivatives.
        kernel: What computes them.

    Returns:
        The operator, called with the four parts of a :class:`Problem`.
    """
    return _Family(name, kernel)


def _contiguous(given: Sequence[Any]) -> Problem:
    operands, constants, sizes, numbers = given
    return Problem([*map(plain, operands)], [*map(plain, constants)], sizes, numbers)


class Seen(NamedTuple):
    """What was prepared for tensors, and :func:`looks_of` them then."""

    made: Any
    looks: list[tuple[Any, ...]]


def looks_of(tensors: Sequence[Tensor]) -> list[tuple[Any, ...]] | None:
    """All that decides what memory a kernel reads, and how; the values aside.

    None if it would read one of the tensors in another way than its numbers lie.
    """
    looks = []
    for x in tensors:  # in as few calls as there can be: there are many
        if not x.is_contiguous() or x.is_conj() or x.is_neg():
            return None
        size = x.untyped_storage().nbytes()
        looks.append((x.data_ptr(), size, x.dtype, x.shape))
    return looks


def still_made(seen: Seen | None, tensors: Sequence[Tensor]) -> Any:
    """What was prepared, if the tensors still look as they did then; else None.

    Autograd itself refuses tensors with other values, but not those of other shapes
    out of hooks, or without their memory.
    """
    if seen is None or seen.looks != looks_of(tensors):
        return None
    return seen.made


def _known(
    seen: Seen | None,
    operands: Sequence[Tensor],
    constants: Sequence[Tensor],
    settings: Sequence[Any],
) -> Problem:
    """A problem that a kernel has checked, if its tensors look as they did then."""
    made = still_made(seen, [*operands, *constants])
    if made is None:
        return _contiguous((operands, constants, *settings))
    sizes, numbers = settings
    return Problem(operands, constants, sizes, numbers, made)


def _parted(tensors: Sequence[Tensor], counts: Sequence[int]) -> list[list[Tensor]]:
    """Lists of given lengths, one after the other."""
    rest = iter(tensors)
    return [[next(rest) for _ in range(count)] for count in counts]


def _only(parts: Sequence[Tensor], there: Sequence[bool]) -> Some:
    """What is there of parts that stand for something or for nothing."""
    return [part if mark else None for part, mark in zip(parts, there, strict=True)]


def _marked(parts: Sequence[Tensor | None], like: Tensor) -> tuple[list[Tensor], Any]:
    """Tensors with empty ones where there is none, and which ones there are."""
    full = [like.new_empty(0) if part is None else part for part in parts]
    return full, [part is not None for part in parts]


def _present(
    name: str, parts: Sequence[Tensor], there: Sequence[bool], likes: Sequence[Tensor]
) -> Some:
    """The inverse of :func:`_marked`, checked against what they belong to."""
    check_count(name, parts, len(likes))
    check_count(f"marks of {name}", there, len(likes))
    found: Some = []
    for k, (part, given, like) in enumerate(zip(parts, there, likes, strict=True)):
        full = plain(part) if given else None
        if full is not None:
            check_like(f"{name}[{k}]", full, like)
        found.append(full)
    return found


def _filled(parts: Some, likes: Sequence[Tensor]) -> list[Tensor]:
    return [
        like.new_empty(0) if part is None else part
        for part, like in zip(parts, likes, strict=True)
    ]


def _nothing(numbers: Sequence[float]) -> list[Tensor] | None:
    """Gradient of numbers; PyTorch takes a list without any for one of tensors."""
    return None if numbers else []


def _chosen(parts: Sequence[Tensor | None], wanted: Sequence[bool]) -> Some:
    return [part if want else None for part, want in zip(parts, wanted, strict=True)]
