"""What recomputing networks and their training takes: a pass with gradients, a training's start."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from sicl_jax import devices
from sicl_jax.methods.base import Method
from sicl_jax.methods.state import TrainState, Weights
from sicl_jax.verify.files import Golden
from sicl_jax.weights import torch_names

_BETA1 = 0.9
_KINKS, _NEAR = 5, 1e-5  # ReLUs that are flipped, alone and together, and how near to 0 they are.


class Kinks:
    """The ReLUs of a pass whose inputs are 0 but for rounding: one's gradient is all or nothing.

    Args:
        call: The pass, of a network and inputs; no ReLU of it may be within a `jax.vmap`.
    """

    def __init__(self, call: Callable[..., Any]):
        self._call = call
        self._found: list[list[int]] | None = None

    def places(self, flips: int, module: nnx.Module, *inputs: Any) -> np.ndarray | None:
        """Numbers of ReLU and of input, (5, 2) int32, of those that bits choose, -1 for none.

        Args:
            flips: The bits (`Golden.flips`).
            module: The network; where its ReLUs are near to 0 is found once, at the first flip.
            *inputs: Arrays.

        Returns:
            None where none of them is chosen.
        """
        if flips and self._found is None:
            self._found = self._find(module, *inputs)
        chosen = [place for number, place in enumerate(self._found or ()) if flips >> number & 1]
        if not chosen:
            return None
        return np.array(chosen + [[-1, -1]] * (_KINKS - len(chosen)), np.int32)

    def _find(self, module: nnx.Module, *inputs: Any) -> list[list[int]]:
        graph, state = nnx.split(module)

        @jax.jit
        def nearest(state, *inputs):
            found = []

            def relu(x):
                found.append(jax.lax.top_k(-jnp.abs(x).ravel(), min(_KINKS, x.size)))
                return jnp.maximum(x, 0)

            with mock.patch.object(jax.nn, "relu", relu):
                self._call(nnx.merge(graph, state, copy=True), *inputs)
            return found

        places = sorted(
            (-float(size), site, int(place))
            for site, (sizes, within) in enumerate(nearest(state, *inputs))
            for size, place in zip(sizes, within, strict=True)
        )
        return [place for size, *place in places[:_KINKS] if size < _NEAR]


@contextlib.contextmanager
def flipped(places: jax.Array | None) -> Iterator[None]:
    """Has the ReLUs that are traced meanwhile stop what they would pass at places (`Kinks`)."""
    if places is None:
        yield
        return
    sites = itertools.count()

    def relu(x):
        site, number = next(sites), jnp.arange(x.size).reshape(x.shape)
        passes = x > 0
        for at, within in places:
            passes ^= (at == site) & (within == number)
        return jnp.where(passes, x, 0.0)

    with mock.patch.object(jax.nn, "relu", relu):
        yield


class Passed(NamedTuple):
    """What a pass gave.

    Attributes:
        value: Of the objective.
        outputs: What the objective gave beside it.
        gradients: Those of the weights by published name, others left out.
        of_input: That of the first input; None where it was not asked for.
        after: The module's arrays by published name, with the statistics that the pass left.
    """

    value: jax.Array
    outputs: Any
    gradients: dict[str, np.ndarray]
    of_input: jax.Array | None
    after: dict[str, np.ndarray]


class Pass:
    """A pass of a module and the objective's gradients, compiled once for a file and its controls.

    Args:
        module: Of the sizes; its arrays are not read.
        names: Published names of a module's variables.
        objective: From the module and inputs to a number and whatever else, traceable.
        argnums: Gradients of what: 0 the weights, 1 the first input.
        weights: Kinds of variables that are weights.
    """

    def __init__(
        self,
        module: nnx.Module,
        names: Callable[[nnx.Module], torch_names.Names],
        objective: Callable[..., tuple[jax.Array, Any]],
        argnums: Sequence[int] = (0,),
        weights: tuple[type[nnx.Variable], ...] = (nnx.Param,),
    ):
        self._graph = graph = nnx.graphdef(module)
        self._names, self._argnums, self._weights = names, tuple(argnums), weights
        self._kinks = Kinks(objective)

        @jax.jit
        def run(params, rest, places, *inputs):
            def value(params, *inputs):
                module = nnx.merge(graph, params, rest, copy=True)
                with flipped(places):
                    found, outputs = objective(module, *inputs)
                return found, (outputs, nnx.state(module, nnx.BatchStat))

            return jax.value_and_grad(value, tuple(argnums), has_aux=True)(params, *inputs)

        self._run = run

    def __call__(self, module: nnx.Module, *inputs: Any, flips: int = 0) -> Passed:
        """Runs the pass; the module stays as it is.

        Args:
            module: The network.
            *inputs: Arrays.
            flips: Which ReLUs are flipped (`Golden.flips`, `Kinks`).
        """
        places = self._kinks.places(flips, module, *inputs)
        _, params, rest = nnx.split(module, self._weights, ...)
        (value, (outputs, statistics)), found = self._run(params, rest, places, *inputs)
        of = dict(zip(self._argnums, found, strict=True))
        gradients = {}
        if 0 in of:
            names = self._names(nnx.merge(self._graph, of[0], rest, copy=True))
            gradients = torch_names.collect(trained(names, self._weights))
        after = nnx.merge(self._graph, params, rest, copy=True)
        nnx.update(after, statistics)
        arrays = torch_names.collect(self._names(after))
        return Passed(value, outputs, gradients, of.get(1), arrays)


def trained(
    names: torch_names.Names, weights: tuple[type[nnx.Variable], ...] = (nnx.Param,)
) -> torch_names.Names:
    """Those of trained weights."""
    return {n: e for n, e in names.items() if isinstance(torch_names.variable_of(e), weights)}


def zeros_of(names: torch_names.Names) -> dict[str, np.ndarray]:
    """Zeros by name: gradients in files that have them of frozen weights too."""
    return {name: np.zeros(torch_names.torch_shape(entry)) for name, entry in names.items()}


def begun(method: Method, arrays: Mapping[str, np.ndarray], golden: Golden) -> TrainState:
    """The state of a training that begins with arrays of published names."""
    model = method.abstract_model()
    torch_names.assign(method.names(model), arrays, golden.file)
    return method.start(devices.put_replicated(Weights.of(model)), ())


def first_gradients(method: Method, before: TrainState, after: TrainState) -> nnx.Module:
    """The network with gradients in the places of its trained weights: those of a first step.

    They are what Adam's mean took up of them and of the decay; zeros where there is no mean.
    """
    decay = method.config.optimizer.weight_decay

    def gradient(mean, weight):
        if isinstance(mean, optax.MaskedNode):
            return np.zeros_like(weight)
        return mean / (1 - _BETA1) - decay * weight

    # In NumPy: JAX would compile each operation anew for every shape.
    means = optax.tree_utils.tree_get(after.optimizer, "mu")
    gradients = jax.tree.map(
        gradient,
        *jax.device_get((means, before.weights.params)),
        is_leaf=lambda node: isinstance(node, optax.MaskedNode),
    )
    return method.model(dataclasses.replace(before.weights, params=gradients))


def nhwc(array: np.ndarray) -> jax.Array:
    """Pictures or maps of a file, (B, C, H, W), in the order that ours are in."""
    return jnp.asarray(array).transpose(0, 2, 3, 1)


def nchw(array: jax.Array) -> np.ndarray:
    """Pictures or maps of ours, (B, H, W, C), in the order that the files have them in."""
    return np.asarray(array).transpose(0, 3, 1, 2)
