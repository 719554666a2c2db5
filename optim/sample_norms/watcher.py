"""The hooks on a model and its weights that see every sample's term of a gradient during an ordinary backward pass.

A tensor hook on a layer's output sees the output's gradient (a full backward hook would break in-place
activations behind the layer); once the gradient of the weight is complete, so are the uses of the layer in this
backward pass, and their terms are added before the norm is taken.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.utils.hooks import RemovableHandle

from optim.sample_norms.layer import Layer
from optim.sample_norms.norms import sample_norms
from optim.sample_norms.sampling import estimated_total
from optim.sample_norms.terms import Term, term_kind
from optim.sample_norms.use import Use
from optim.trust import is_adapted, state_dtype

Draw = Callable[[int], Tensor]
"""From the samples of a batch to the places of the chosen ones."""


class Watcher:
    """Finds a model's adapted weights and keeps their sums up to date, backward pass by backward pass.

    Args:
        model: its modules and weights get hooks until `remove`.
        draw: which samples to look at; None for all.
        whole: whether the norm is that of a whole backward pass and not of its samples.
        counted: whether the number of samples is needed.

    Raises:
        ValueError: a weight belongs to a layer that is not covered.
    """

    def __init__(self, model: nn.Module, *, draw: Draw | None, whole: bool, counted: bool) -> None:
        self.layers: dict[Tensor, Layer] = {}
        self._draw = draw
        self._whole = whole
        self._owners: dict[nn.Module, tuple[Layer, type[Term]]] = {}
        self._passes: dict[int, _BackwardPass] = {}
        self._handles: list[RemovableHandle] = []
        by_sample = counted or not whole
        self._find(model, strict=by_sample)
        for module in self._owners if by_sample else ():
            self._handles.append(module.register_forward_hook(_ForwardHook(self), with_kwargs=True))
        for layer in self.layers.values():
            if whole:
                see = partial(self._see_gradient, layer)
                self._handles.append(layer.weight.register_hook(see))  # type: ignore[no-untyped-call]
            hook = partial(self._finish, layer)
            self._handles.append(layer.weight.register_post_accumulate_grad_hook(hook))  # type: ignore[no-untyped-call]

    def remove(self) -> None:
        """Take all hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._passes.clear()

    def forget_passes(self) -> None:
        """Drop what an error in a backward pass left; not while one is running."""
        if _pass_id() == -1:
            self._passes.clear()

    def _find(self, model: nn.Module, strict: bool) -> None:
        uncovered = []
        for path, module in model.named_modules():
            for name, weight in module.named_parameters(recurse=False):
                if not (weight.requires_grad and is_adapted(weight)):
                    continue
                full_name = f"{path}.{name}" if path else name
                layer = self.layers.setdefault(weight, Layer(full_name, weight))
                kind = term_kind(module) if name == "weight" else None
                if kind is not None and not getattr(module, "sparse", False):
                    self._owners[module] = layer, kind
                elif strict:
                    uncovered.append(f"{full_name} of shape {tuple(weight.shape)} in {type(module).__name__}")
        if uncovered:
            raise ValueError(
                f"no per-sample gradient is known for {'; '.join(uncovered)}. Covered are Linear, Conv1d, Conv2d, "
                "Conv3d and (not sparse) Embedding, with torch's own forward: replace the layer, freeze its weight "
                "first (requires_grad_(False)), or take a mean loss with mode='micro_batch', which is a different "
                "quantity"
            )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def see_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        """Keep what the backward pass of this call will need."""
        layer, kind = self._owners[module]
        # functional_call puts other tensors in the place of the weight, torch.func wraps what goes through
        own = module._parameters.get("weight") is layer.weight and not is_functorch_wrapped_tensor(output)
        if not (own and module.training and output.requires_grad and layer.weight.requires_grad):
            return
        if not kind.is_batch(module, output):
            raise RuntimeError(
                f"the first dimension must be that of the samples, but {layer.name} got an input without a batch "
                f"dimension and returned {tuple(output.shape)}"
            )
        use = None if self._whole else Use(kind, module, args[0] if args else kwargs["input"])
        output.register_hook(partial(self._see_output_gradient, layer, use))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _see_output_gradient(self, layer: Layer, use: Use | None, grads: Tensor) -> None:
        current = self._current_pass(layer)
        if current.samples is None:
            current.samples, current.first = len(grads), layer.name
        elif current.samples != len(grads):
            raise RuntimeError(
                "the first dimension must be that of the samples, the same for all layers, but it has "
                f"{current.samples} at {current.first} and {len(grads)} at {layer.name}: expand what is shared by "
                "the samples (positions) before its layer, keep what is folded (windows, views) in other dimensions"
            )
        if use is None:
            return
        if use.spent:
            raise RuntimeError(
                f"a graph was walked twice by backward: {layer.name} would count its samples' parts one by one. "
                "Add the losses up and call backward once"
            )
        term, rows = use.term(grads.detach()), current.rows(self._draw, grads)
        # what is chosen is taken out at once, while the gradient is in the cache
        current.uses.setdefault(layer, []).append((use, term if rows is None else term.select(rows)))

    @torch.no_grad()
    def _see_gradient(self, layer: Layer, gradient: Tensor) -> None:
        norm = torch.linalg.vector_norm(gradient.detach(), dtype=state_dtype(layer.weight))
        self._current_pass(layer).gradient_norms[layer] = norm

    @torch.no_grad()
    def _finish(self, layer: Layer, _weight: Tensor) -> None:
        """The gradient of a weight is complete: all of its uses in this backward pass were seen."""
        current = self._passes.get(_pass_id(), _BackwardPass())
        samples = current.samples or 0
        uses = current.uses.pop(layer, [])
        if self._whole:
            norm = current.gradient_norms.pop(layer)
            layer.add(norm, torch.full_like(norm, torch.nan), samples)
        elif uses:
            norms = sample_norms([term for _, term in uses], state_dtype(layer.weight))
            layer.add(*estimated_total(norms, samples), samples)
        else:
            layer.missed = True
        for use, _ in uses:
            use.release()

    def _current_pass(self, layer: Layer) -> "_BackwardPass":
        """The record of the backward pass that is running; `layer` is about to get a gradient by it."""
        key = _pass_id()
        if key not in self._passes:
            self._passes[key] = _BackwardPass()
            # a pass by torch.autograd.grad completes no gradient: what it leaves goes with it
            torch.autograd.Variable._execution_engine.queue_callback(partial(self._forget, key))
        current = self._passes[key]
        if layer not in current.begun:
            current.begun.add(layer)
            layer.begin()
        return current

    def _forget(self, key: int) -> None:
        self._passes.pop(key, None)


class _BackwardPass:
    """What is known of one backward pass while it runs."""

    def __init__(self) -> None:
        self.samples: int | None = None
        self.first = ""  # the layer that set `samples`
        self.begun: set[Layer] = set()
        self.uses: dict[Layer, list[tuple[Use, Term]]] = {}  # each with its term, of the chosen samples
        self.gradient_norms: dict[Layer, Tensor] = {}
        self._chosen: Tensor | None = None
        self._rows: dict[torch.device, Tensor] = {}

    def rows(self, draw: Draw | None, grads: Tensor) -> Tensor | None:
        """The places of the chosen samples, the same for all layers, on the device of `grads`; None for all."""
        if draw is None:
            return None
        if self._chosen is None:
            self._chosen = draw(len(grads))
        if grads.device not in self._rows:
            self._rows[grads.device] = self._chosen.to(grads.device, non_blocking=True)
        return self._rows[grads.device]


def _pass_id() -> int:
    """Which backward pass is running: as torch's own multi-gradient hooks know it."""
    return torch._C._current_graph_task_id()


class _ForwardHook:
    """The hook on a module, which does not go with a copied or pickled one."""

    def __init__(self, watcher: Watcher | None = None) -> None:
        self._watcher = watcher

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        if self._watcher is not None:
            self._watcher.see_forward(module, args, kwargs, output)

    def __reduce__(self) -> tuple[Any, ...]:
        return _ForwardHook, ()
