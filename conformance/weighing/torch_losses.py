"""The terms of a torch loss, read off autograd's graph, without running the engine.

From the scalar that is backpropagated the derivative is carried down node by node, by calling the
nodes themselves: no hook of anybody runs, nothing is freed, nothing is drawn. It stops where the
items are: at a loss function, or where a reduction's input is no longer a linear function of known
losses. What the derivative is there is each item's share.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from conformance.weighing.records import HALF, Term
from conformance.weighing.torch_forwards import Found, bytes_of, named, told
from conformance.weighing.torch_graph import (
    Node,
    below,
    chain,
    edges,
    factor_of,
    is_of_a_leaf,
    is_scalar,
    kind_of,
    logits_of,
    own_scale,
)

_LINEAR = frozenset(
    {"Add", "Sub", "Rsub", "Neg", "Mul", "Div", "Sum", "Mean", "View", "ReshapeAlias", "UnsafeView",
     "Unsqueeze", "Squeeze", "Expand", "Transpose", "T", "Permute", "Index", "IndexSelect",
     "MaskedSelect", "MaskedFill", "Where", "Cat", "Stack", "Select", "Slice", "ToCopy", "Clone",
     "Alias", "Unbind", "Split", "SplitWithSizes", "NanToNum", "Nansum", "Dot", "Vdot"}
)  # fmt: skip
_PRODUCTS = frozenset({"Mm", "Mv", "Bmm"})  # with a constant, which weighs items and adds them up
# Of many items one number, which is no sum of theirs.
_FUNCTIONS = frozenset(
    {"Logsumexp", "LinalgVectorNorm", "Norm", "Prod", "Var", "Std", "Max", "Min", "Amax", "Amin",
     "Median", "Nanmedian"}
)  # fmt: skip
_LOSSES = {
    "NllLoss": "nll_loss", "NllLoss2D": "nll_loss", "MseLoss": "mse_loss",
    "SmoothL1Loss": "smooth_l1_loss", "HuberLoss": "huber_loss",
    "BinaryCrossEntropy": "binary_cross_entropy",
    "BinaryCrossEntropyWithLogits": "binary_cross_entropy_with_logits", "KlDiv": "kl_div",
    "SoftMarginLoss": "soft_margin_loss", "MultiMarginLoss": "multi_margin_loss",
    "Gather": "gather", "Pow": "squares", "Abs": "l1_loss", "Softplus": "softplus",
    "LogSigmoid": "logsigmoid", "LogSigmoidForward": "logsigmoid", "LogSoftmax": "cross_entropy",
}  # fmt: skip
# A product with a constant, and a choice of items: what masks items and weighs them.
_WEIGHING = frozenset(
    {"Neg", "Mul", "Div", "Index", "IndexSelect", "MaskedSelect", "MaskedFill", "Where", "View",
     "ReshapeAlias", "UnsafeView", "Squeeze", "Unsqueeze", "Select", "Slice", "ToCopy", "Clone"}
)  # fmt: skip
_IDENTITIES = frozenset({"_DDPSink", "BackwardHookFunction", "RegisterPostBackwardFunction"})
_PENALTIES = frozenset(
    {"Pow", "Abs", "Norm", "LinalgVectorNorm", "Sum", "Stack", "Cat", "Add", "View", "Mul",
     "torch::autograd::AccumulateGrad", "AccumulateGrad"}
)  # fmt: skip
_CLASSES = frozenset({"NllLoss", "NllLoss2D"})
_LOGARITHMS = frozenset({"Gather", "LogSoftmax", "LogSigmoid", "LogSigmoidForward"})  # of p; −log p
_MOST_SHARES = 4096
_FEW = 3  # terms of one name and one item each are a loop over samples, and fewer are heads
_MEAN, _SUM = 1, 2  # torch's own numbers of reductions


@dataclass
class _Arriving:
    """The derivative that arrives at a node's outputs, and how it came there.

    Attributes:
        gradients: the derivative.
        plain: what it would be without the weights by which the script multiplies single items.
        own: what a loss may have as its own factor: 2 or 1/2 before every item, and the number of
            items that are added up before others take a mean.
    """

    gradients: dict[int, torch.Tensor]
    plain: dict[int, torch.Tensor] = field(default_factory=dict)
    rounding: float = 0.0
    is_linear: bool = True
    is_mean: bool = False
    is_halved: bool = False
    own: float = 1.0
    is_halved_itself: bool = False


def terms_of(
    roots: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]
) -> tuple[list[Term], str]:
    """Return the terms of what is backpropagated, and a digest of their targets."""
    digest = hashlib.blake2b(digest_size=8)
    found: list[Found] = []
    with torch.no_grad():
        arriving: dict[Node, _Arriving] = {}
        for root, gradient in zip(roots, gradients, strict=True):
            if root.grad_fn is not None:
                seed = torch.ones_like(root) if gradient is None else gradient
                _arrive(arriving, root.grad_fn, root.output_nr, seed, seed, _Arriving({}))
        order = _ordered(list(arriving))
        for node in order:
            state = arriving.pop(node, None)
            if state is None or not state.gradients:
                continue
            if not _passes(node):
                targets = list(_targets(node))
                for target in targets:
                    digest.update(bytes_of(target))
                found.append(Found(_term(node, state), node, b"".join(map(told, targets))))
                continue
            _pass_on(node, state, arriving)
    head = [node for node in order if _passes(node)]
    return named(_of_single_items(_joined(found)), head), digest.hexdigest()


def _arrive(
    arriving: dict[Node, _Arriving],
    node: Node,
    at: int,
    gradient: torch.Tensor,
    plain: torch.Tensor,
    from_: _Arriving,
) -> None:
    state = arriving.setdefault(node, _Arriving({}))
    if at in state.gradients:
        is_plain = plain is gradient and state.plain[at] is state.gradients[at]
        gradient = state.gradients[at] + gradient
        plain = gradient if is_plain else state.plain[at] + plain
    state.gradients[at], state.plain[at] = gradient, plain
    # The share is multiplied, or divided, at each node: two roundings at most.
    unit = torch.finfo(gradient.dtype).eps / 2 if gradient.is_floating_point() else 0.0
    state.rounding = max(state.rounding, from_.rounding + 2 * unit)
    state.is_linear &= from_.is_linear
    state.is_mean |= from_.is_mean
    state.is_halved |= from_.is_halved
    state.own = from_.own if state.own == 1 else state.own
    state.is_halved_itself |= from_.is_halved_itself


def _pass_on(node: Node, state: _Arriving, arriving: dict[Node, _Arriving]) -> None:
    """Carry the derivative through a node to those that it was made of."""
    kind = kind_of(node)
    given = plain = _carried(node, state.gradients)
    if any(state.plain[at] is not each for at, each in state.gradients.items()):
        plain = _carried(node, state.plain)
    weights = _weights_of_items(node)
    if weights is not None:
        plain = [
            state.plain[0] * (weights != 0) if each is not None and each.shape == weights.shape
            else each
            for each in plain
        ]  # fmt: skip
    if kind not in _LINEAR and kind not in _IDENTITIES and kind not in _PRODUCTS:
        state.is_linear = False
    if kind in ("Mul", "Div") and edges(node) > 1:
        state.is_linear = False
    state.is_mean |= kind == "Mean"
    factor = abs(factor_of(node)) if kind == "Mul" else 1.0
    state.is_halved |= factor == HALF
    if factor in (HALF, 1 / HALF) and not is_scalar(node):
        state.own *= factor
        state.is_halved_itself |= factor == HALF
    elif kind == "Sum" and not is_scalar(node):
        state.own *= given[0].numel() / state.gradients[0].numel()
    for (following, at), gradient, bare in zip(node.next_functions, given, plain, strict=False):
        if following is not None and gradient is not None:
            _arrive(arriving, following, at, gradient, bare, state)


def _carried(node: Node, gradients: dict[int, torch.Tensor]) -> Sequence[Any]:
    """Return what a node gives to those that it was made of."""
    if kind_of(node) in _IDENTITIES:
        return [gradients.get(i) for i in range(len(node.next_functions))]
    outputs = [gradients.get(i) for i in range(max(gradients) + 1)]
    outputs += [None] * (len(node._input_metadata) - len(outputs))
    result = node(*outputs)
    return result if isinstance(result, tuple) else (result,)


def _weights_of_items(node: Node) -> torch.Tensor | None:
    """Return the constants by which a node multiplies items, one for each; None of other nodes."""
    kind = kind_of(node)
    if kind not in ("Mul", "Div") or edges(node) != 1 or is_scalar(node):
        return None
    other = node._saved_other
    other = node._saved_self if other is None and kind == "Mul" else other
    if not isinstance(other, torch.Tensor) or other.numel() < 2:
        return None
    return (other if kind == "Mul" else 1 / other).expand(tuple(node._input_metadata[0].shape))


def _ordered(starts: list[Node]) -> list[Node]:
    """Return the head of the graph, each node after all that lead to it."""
    order: list[Node] = []
    done: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(start, False) for start in starts]
    while stack:
        node, is_left = stack.pop()
        if is_left:
            order.append(node)
            continue
        if node in done:
            continue
        done.add(node)
        stack.append((node, True))
        if _passes(node):
            stack += [(following, False) for following, _ in node.next_functions if following]
    return order[::-1]


def _passes(node: Node) -> bool:
    """Whether a node stands between the scalar and the items."""
    kind = kind_of(node)
    if hasattr(node, "variable") or not node.next_functions:
        return False
    if kind in _IDENTITIES:
        return True
    if is_scalar(node):
        if kind in _LINEAR or _is_weighted_sum(node):
            return True
        # A function of one scalar, as the root of a mean; a loss has an input that is none.
        inputs = [following for following, _ in node.next_functions if following]
        return (
            bool(inputs)
            and kind not in _LOSSES
            and all(map(is_scalar, inputs))
            and not hasattr(node, "_forward_cls")
        )
    return _leads_to_losses(node)


def _is_weighted_sum(node: Node) -> bool:
    """Whether a matrix product multiplies items with constants, and is no layer of a model."""
    inputs = [following for following, _ in node.next_functions if following]
    is_product = kind_of(node) in _PRODUCTS and len(inputs) == 1
    return is_product and not hasattr(inputs[0], "variable") and not is_of_a_leaf(inputs[0])


def _leads_to_losses(node: Node) -> bool:
    """Whether a node without items of its own rearranges and weighs those of known losses."""
    if kind_of(node) not in _LINEAR:
        return False
    if kind_of(node) in ("Mul", "Div") and edges(node) > 1:
        return False
    if [(kind_of(n), edges(n)) for n in chain(node)] == [("Sum", 1), ("Mul", 1), ("Div", 2)]:
        return False  # normalised features times constant ones: a row is an item, as of a cosine
    inputs = [following for following, _ in node.next_functions if following]
    if kind_of(node) in _WEIGHING and len(inputs) == 1 and not hasattr(inputs[0], "variable"):
        return True  # a mask says which items there are, whatever they are
    return bool(inputs) and all(
        kind_of(following) in _LOSSES or _leads_to_losses(following) for following in inputs
    )


def _term(node: Node, state: _Arriving) -> Term:
    """Return the term whose items are a node's."""
    kind = kind_of(node)
    gradient = next(iter(state.gradients.values()))
    reduction = int(getattr(node, "_saved_reduction", 0)) if kind in _LOSSES else 0
    if reduction and gradient.numel() == 1:
        term = _reduced(node, kind, float(gradient), reduction)
    elif kind in _FUNCTIONS and gradient.numel() == 1:
        term = Term(kind, None, float(gradient))
    elif kind in _LOSSES or gradient.numel() > 1 or not hasattr(node, "_forward_cls"):
        plain = next(iter(state.plain.values()))
        term = _unreduced(node, kind, gradient, state.rounding)
        if plain is not gradient and kind != "LogSoftmax" and term.mass is None:
            term = _weighed(term, gradient, plain, state.rounding, kind)
    else:
        term = Term(kind, None, float(gradient))
    unit = torch.finfo(gradient.dtype).eps / 2
    return replace(
        term,
        rounding=max(term.rounding, state.rounding + 2 * unit),
        is_linear=state.is_linear,
        is_mean=term.is_mean or state.is_mean,
        is_penalty=_is_penalty(node),
        target=_constant(node),
        own_scale=own_scale(node, is_halved=state.is_halved) if state.own == 1 else state.own,
        is_halved_itself=state.is_halved_itself,
        is_of_soft_targets=kind == "LogSoftmax",
    )


def _reduced(node: Node, kind: str, scale: float, reduction: int) -> Term:
    """Return the term of a loss function that averages or adds up by itself."""
    is_mean = reduction == _MEAN
    if kind.startswith("NllLoss"):
        target = node._saved_target
        kept = target != node._saved_ignore_index
        count = int(kept.sum())
        mass = _mass(node, kept)
        share = scale / ((count if mass is None else mass) or 1) if is_mean else scale
        return replace(_named(node, kind, count, share, target), is_mean=is_mean, mass=mass)
    count = getattr(node, "_saved_self").numel()  # noqa: B009 - read at run time, torch has no stub
    share = scale / max(count, 1) if is_mean else scale
    return replace(_named(node, kind, count, share, node._saved_self), is_mean=is_mean)


def _mass(node: Node, kept: torch.Tensor) -> float | None:
    """Return what the kept items weigh by the weights of their classes, where there are any."""
    weight = node._saved_weight
    return None if weight is None else float(weight[node._saved_target[kept]].double().sum())


def _unreduced(node: Node, kind: str, gradient: torch.Tensor, rounding: float) -> Term:
    """Return the term of items that the script's own arithmetic weighs."""
    if kind == "LogSoftmax":  # an item is a row: its targets' probabilities add up to 1
        gradient = gradient.double().sum(_dimension(node._saved_dim))
    flat = gradient.reshape(-1).double() * (-1 if kind in _LOGARITHMS else 1)
    target = next(iter(_targets(node)), None)
    kept = flat != 0
    if kind.startswith("NllLoss") and target is not None and target.numel() == flat.numel():
        kept &= target.reshape(-1) != node._saved_ignore_index
    shares = flat[kept]
    count = int(kept.sum())
    mean = float(shares.mean()) if count else 0.0
    width = float(shares.max() - shares.min()) if count else 0.0
    is_even = width <= 2 * rounding * abs(mean)
    term = _named(node, kind, count, mean, gradient if target is None else target)
    return replace(
        term,
        is_even=is_even,
        places=flat.numel(),
        mass=_mass(node, kept.view(node._saved_target.shape)) if kind in _CLASSES else None,
        shares=() if is_even or count > _MOST_SHARES else shares.tolist(),
        rounding=rounding + (width / abs(mean) if is_even and mean else 0.0),
    )


def _weighed(
    term: Term, gradient: torch.Tensor, plain: torch.Tensor, rounding: float, kind: str
) -> Term:
    """Note what a weight of 1 gives to an item, and what all weigh, where the script weighs them.

    Weights of which some are taken away add up to nothing that anybody would divide by.
    """
    kept = gradient != 0
    own = plain[kept].double() * (-1 if kind in _LOGARITHMS else 1)
    if not own.numel() or float(own.max() - own.min()) > 2 * rounding * abs(float(own.mean())):
        return term
    weights = gradient[kept].double().abs() / own.abs() * (gradient[kept] * plain[kept]).sign()
    mass = float(weights.sum()) if bool((weights > 0).all()) else None
    return replace(term, plain=float(own.mean()), weighs=mass)


def _named(node: Node, kind: str, count: int, share: float, items: torch.Tensor) -> Term:
    """Return a term with its name and the counts that its graph tells."""
    name = _LOSSES.get(kind, kind)
    if name in ("nll_loss", "gather") and any(
        kind_of(following) == "LogSoftmax" for following in below(node)
    ):
        name = "cross_entropy"
    shape = tuple(length for length in items.shape if length != 1)
    for following in below(node):
        sizes = tuple(map(int, getattr(following, "_saved_self_sym_sizes", None) or ()))
        if len(shape) == 1 and len(sizes) > 2 and sizes[0] * sizes[1] == items.numel():
            shape = sizes[:2]  # the loss function was given sequences one after another
    is_text = name in ("cross_entropy", "nll_loss") and len(shape) == 2
    samples = shape[0] if len(shape) > 1 else None
    return Term(
        name,
        count,
        share,
        unit="token" if is_text else "sample" if len(shape) <= 1 else "element",
        samples=samples,
        labels=count + samples if is_text and samples else None,
        places=items.numel(),
    )


def _targets(node: Node) -> Iterator[torch.Tensor]:
    for name in ("_saved_target", "_saved_index"):
        target = getattr(node, name, None)
        if isinstance(target, torch.Tensor):
            yield target


def _constant(node: Node) -> float | None:
    """Return the one number that all targets are, as the label of real or of made images."""
    for target in _targets(node):
        if target.is_floating_point() and target.numel() > 1:
            first = target.reshape(-1)[0]
            return float(first) if bool((target == first).all()) else None
    return None


def _is_penalty(node: Node) -> bool:
    """Whether everything below is a function of parameters alone."""
    seen, stack = {node}, [node]
    while stack:
        current = stack.pop()
        if kind_of(current) not in _PENALTIES:
            return False
        if kind_of(current) == "Mul" and edges(current) < 2:
            return False
        for following, _ in current.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                stack.append(following)
    return True


def _dimension(saved: int) -> int:
    """Return a dimension; the graph keeps negative ones without their sign."""
    return saved - 2**64 if saved >= 2**63 else saved


def _joined(found: Iterable[Found]) -> list[Found]:
    """Add up terms that give to the same rows of one log-softmax: a loss with smoothed labels."""
    joined: list[Found] = []
    place: dict[Node, int] = {}
    for each in found:
        logits = logits_of(each.node)
        at = None if logits is None else place.setdefault(logits, len(joined))
        if at is None or at == len(joined):
            joined.append(each)
            continue
        term, other = each.term, joined[at].term
        if not (term.is_even and other.is_even and term.count == other.count):
            joined.append(each)
            continue
        # What tells more of its items is the loss of the labels.
        known = max(term, other, key=lambda one: (one.labels is not None, one.is_mean))
        whole = replace(
            known,
            share=term.share + other.share,
            rounding=max(term.rounding, other.rounding) + 2.0**-24,
            is_linear=term.is_linear and other.is_linear,
            # Labels are smoothed with all classes' weights, and not with that of the item's own.
            is_even=term.mass is None and other.mass is None,
            mass=None,
            plain=None,
        )
        joined[at] = replace(joined[at], term=whole, targets=joined[at].targets + each.targets)
    return joined


def _of_single_items(found: list[Found]) -> list[Found]:
    """Put terms of one item each together: a script that adds up its samples' losses in a loop."""
    by_name: dict[str, list[Found]] = {}
    for each in found:
        by_name.setdefault(each.term.name, []).append(each)
    joined = []
    for group in by_name.values():
        own = [each.term for each in group]
        if len(own) < _FEW or any(term.count != 1 for term in own):
            joined += group
            continue
        shares = [term.share for term in own]
        mean, rounding = sum(shares) / len(own), max(term.rounding for term in own)
        is_even = max(shares) - min(shares) <= 2 * rounding * abs(mean)
        whole = replace(
            own[0],
            count=len(own),
            share=mean,
            rounding=2 * rounding,
            is_even=is_even and all(term.is_even for term in own),
            is_linear=all(term.is_linear for term in own),
            is_penalty=all(term.is_penalty for term in own),
            places=len(own),
            plain=None,
            shares=() if is_even or len(own) > _MOST_SHARES else shares,
        )
        joined.append(replace(group[0], term=whole))
    return joined
