"""Exports the networks of the scenes model as ONNX graphs without weights.

A graph holds no weights but where they are: each large initializer lies in an external file at an offset, and
``graphs.json`` lists which tensors of the packaged weights make up this file, in order. So the page carries the
packaged weights, and no second copy of them is shipped.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.shipped import PAGE_GRAPHS

from .weights import SOURCES, read_tensors

OPSET = 20
SMALL = 2048
"""Values of an initializer that stays inside the graph if no tensor of the weights equals it."""


def write_graphs(folder: Path = PAGE_GRAPHS, names: tuple[str, ...] = tuple(SOURCES)) -> str:
    """Write graphs and the list of their tensors.

    Args:
        folder: Where to write; graphs that are there are replaced.
        names: The graphs to write.

    Returns:
        A line on the size of each graph.
    """
    from .modules import example_inputs, page_modules

    folder.mkdir(parents=True, exist_ok=True)
    modules, inputs = page_modules(), example_inputs()
    listing = folder / "graphs.json"
    index: dict[str, Any] = json.loads(listing.read_text()) if listing.is_file() else {}
    for name in names:
        model = _optimised(_exported(modules[name], inputs[name]))
        tensors = _detach_weights(model, name)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        index[name] = {"tensors": tensors}
        if name == "unet":
            index[name] |= {"layers": _layers(modules[name]), "sigmas": _sigmas()}
    listing.write_text(json.dumps(index, indent=0) + "\n")
    return "\n".join(f"{name}.onnx: {(folder / f'{name}.onnx').stat().st_size} bytes" for name in names)


def _layers(denoiser: Any) -> list[dict[str, Any]]:
    """The traced layers, as a run message lists them."""
    from diffvis_widget.scenes import load
    from diffvis_widget.tracer import trace

    layers = trace(load(), "a circle", num_inference_steps=1).layers
    assert [layer.name for layer in layers] == denoiser.layers
    return [{name: getattr(layer, name) for name in ("name", "kind", "heads", "grid", "default")} for layer in layers]


def _sigmas() -> list[float]:
    """Noise over signal at each training step of the scheduler."""
    from diffvis_widget.scenes import load

    scheduler: Any = load().scheduler
    signal = scheduler.alphas_cumprod
    return [float(f"{value:.9g}") for value in (((1 - signal) / signal) ** 0.5).tolist()]


def _exported(module: Any, inputs: Mapping[str, Any]) -> Any:
    import torch

    batch = torch.export.Dim("batch", min=1, max=512)
    further = {0: torch.export.Dim("words", min=1, max=64), 1: torch.export.Dim("tokens", min=2, max=32)}
    free = {name: {0: batch} for name in inputs} | {"timestep": None, "concepts": further, "members": further}
    shapes = tuple(free[name] for name in inputs)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        module(*inputs.values())
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            dynamic_shapes=shapes,
            optimize=False,  # it would merge batch normalisation into weights that nothing ships
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _optimised(model: Any) -> Any:
    """The graph after onnxruntime's optimisations that depend on no machine, without what only people read."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        disabled = ["ConvBatchNormFusion", "ConvMulFusion", "ConvAddFusion", "MatMulBNFusion"]
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
        optimised = onnx.load(options.optimized_model_filepath)
    for node in optimised.graph.node:
        node.ClearField("doc_string")
        node.ClearField("name")
        del node.metadata_props[:]
    for value in (*optimised.graph.input, *optimised.graph.output):
        del value.metadata_props[:]
    del optimised.graph.value_info[:]
    del optimised.graph.metadata_props[:]
    del optimised.metadata_props[:]
    del optimised.functions[:]
    optimised.graph.ClearField("doc_string")
    _shorten_names(optimised.graph)
    return optimised


def _shorten_names(graph: Any) -> None:
    """Numbers the values between the nodes: their long names are half of the file."""
    public = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}

    def short(name: str) -> str:
        return name if not name or name in public else names.setdefault(name, f"v{len(names)}")

    for initializer in graph.initializer:
        initializer.name = short(initializer.name)
    for node in graph.node:
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]


def _detach_weights(model: Any, name: str) -> list[list[Any]]:
    """Moves the weights out of a graph, and lists the tensors of their file: [name, transposed]."""
    import onnx
    from onnx import numpy_helper

    tensors_by_value = _by_value(read_tensors(name))
    places: dict[tuple[str, bool], tuple[int, int]] = {}
    tensors: list[list[Any]] = []
    end = 0
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < 16:
            continue
        match = tensors_by_value.get(_key(values))
        if match is None:
            if values.size > SMALL:
                raise ValueError(f"{name}: no tensor of the weights equals an initializer of shape {values.shape}")
            continue
        if match not in places:
            places[match] = end, values.nbytes
            tensors.append([match[0], match[1]])
            end += values.nbytes
        offset, length = places[match]
        initializer.ClearField("raw_data")
        initializer.ClearField("float_data")
        initializer.data_location = onnx.TensorProto.EXTERNAL
        del initializer.external_data[:]
        for key, value in (("location", name), ("offset", offset), ("length", length)):
            initializer.external_data.add(key=key, value=str(value))
    return tensors


def _by_value(tensors: Mapping[str, NDArray[np.float16]]) -> dict[bytes, tuple[str, bool]]:
    names: dict[bytes, tuple[str, bool]] = {}
    for name, tensor in tensors.items():
        values = tensor.astype(np.float32)
        if values.ndim == 2:
            names.setdefault(_key(values.T), (name, True))
        names.setdefault(_key(values), (name, False))
    return names


def _key(values: NDArray[Any]) -> bytes:
    """The values in their order, whatever the shape: a reshaped tensor has the same bytes."""
    return np.ascontiguousarray(values).tobytes()
