"""The graphs of a task: written by optimum's exporter, fused by onnxruntime's optimizer, quantized, loaded."""

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compression.optimum_route.head_input import WithStates
from compression.optimum_route.schemes import Scheme, with_data
from compression.optimum_route.tasks import Task
from gpt_tasks.errors import UserError, first_line

FOLDER = "onnx"
SUFFIXES = {"fp32": "", "int8": "_int8", "int4": "_q4"}
"""of file names: those that transformers.js looks for by its `dtype`"""
_MERGED = "decoder_model_merged"
_PARTS = ("decoder_model", "decoder_with_past_model")


def stems(task: Task) -> tuple[str, ...]:
    """The names of a precision's graphs, without suffix."""
    return ("encoder_model", _MERGED) if task.kind == "sequence_to_sequence" else ("model",)


def graph_files(task: Task, precision: str) -> list[str]:
    """Below the exported folder; data may lie beside each."""
    return [f"{FOLDER}/{stem}{SUFFIXES[precision]}.onnx" for stem in stems(task)]


def megabytes(folder: Path, task: Task, precision: str) -> float:
    files = [file for name in graph_files(task, precision) for file in with_data(folder / name)]
    return round(sum(file.stat().st_size for file in files) / 10**6, 1)


def write_graphs(checkpoint: Path, task: Task, folder: Path, remote_code: bool) -> None:
    """Writes the graphs in fp32 to `folder`/onnx, and configuration and tokenizer beside that.

    Raises:
        UserError: optimum can't export this checkpoint.
    """
    from optimum.exporters.onnx import main_export

    made = folder / "exporting"
    try:
        with quiet():
            main_export(
                str(checkpoint),
                made,
                task=task.export_name,
                do_validation=False,  # the checks that follow are of another kind, and have limits
                trust_remote_code=remote_code,
                library_name="transformers",
            )
    except (ValueError, KeyError, RuntimeError, NotImplementedError, ImportError, OSError) as error:
        said = first_line(error)
        raise UserError(f"optimum's exporter can't export {checkpoint.name} for {task.name}: {said}") from error
    (folder / FOLDER).mkdir()
    for file in made.iterdir():
        is_graph = ".onnx" in file.name
        shutil.move(file, (folder / FOLDER if is_graph else folder) / file.name)
    made.rmdir()


def fuse(folder: Path, task: Task, out: Path) -> bool:
    """Fuses attention, norms and activations of a graph into onnxruntime's operators, in a folder of its own.

    Returns:
        whether there is something to fuse: onnxruntime's optimizer knows the type of model, and its graph has no cache
    """
    from optimum.onnxruntime import ORTOptimizer
    from optimum.onnxruntime.configuration import OptimizationConfig
    from optimum.onnxruntime.utils import ORTConfigManager
    from transformers import AutoConfig

    if task.cached:
        return False
    try:
        ORTConfigManager.check_supported_model(AutoConfig.from_pretrained(folder).model_type)
    except KeyError:
        return False
    shutil.copyfile(folder / "config.json", folder / FOLDER / "config.json")
    try:
        with quiet():
            optimizer = ORTOptimizer.from_pretrained(folder / FOLDER, file_names=["model.onnx"])
            # Level 1: what more there is depends on the processor, and onnxruntime does it when it loads the graph.
            optimizer.optimize(OptimizationConfig(optimization_level=1), save_dir=out, file_suffix="")
    except NotImplementedError:  # it knows the type of model, but not how its configuration tells the sizes
        return False
    finally:
        (folder / FOLDER / "config.json").unlink()
    return True


def exchange(folder: Path, task: Task, other: Path) -> None:
    """Exchanges the graph in fp32 with the one in another folder."""
    [name] = (Path(file).name for file in graph_files(task, "fp32"))
    aside = other / "aside"
    aside.mkdir()
    for source, target in ((folder / FOLDER, aside), (other, folder / FOLDER), (aside, other)):
        for file in with_data(source / name):
            shutil.move(file, target / file.name)
    aside.rmdir()


def quantize(folder: Path, task: Task, precision: str, scheme: Scheme) -> None:
    """Writes a precision's graphs from those in fp32; older ones of this precision are replaced."""
    with quiet():
        if task.kind != "sequence_to_sequence":
            [source], [target] = graph_files(task, "fp32"), graph_files(task, precision)
            _quantize_one(scheme, folder / source, folder / target)
            return
        from optimum.onnx.graph_transformations import merge_decoders

        encoder, merged = (folder / name for name in graph_files(task, precision))
        _quantize_one(scheme, folder / graph_files(task, "fp32")[0], encoder)
        parts = [folder / FOLDER / f"{part}.part.onnx" for part in _PARTS]
        for part, quantized in zip(_PARTS, parts, strict=True):
            _quantize_one(scheme, folder / FOLDER / f"{part}.onnx", quantized)
        _remove(merged)
        merge_decoders(*parts, save_path=merged, strict=False)
        for part in parts:
            _remove(part)


def _quantize_one(scheme: Scheme, source: Path, out: Path) -> None:
    _remove(out)  # to a file of weights that is there, onnx would append
    scheme.quantize(source, out)


def _remove(graph: Path) -> None:
    for file in with_data(graph):
        file.unlink()


def remove_parts(folder: Path, keep_fp32: bool, task: Task) -> None:
    """What was needed on the way: decoders that aren't merged; graphs in fp32 that nobody asked for."""
    done = [folder / FOLDER / f"{part}.onnx" for part in _PARTS]
    if not keep_fp32:
        done += [folder / name for name in graph_files(task, "fp32")]
    for graph in done:
        _remove(graph)


def load(folder: Path, task: Task, precision: str):
    """The graphs as a model of optimum.onnxruntime; a masked language model's as `WithStates`."""
    import optimum.onnxruntime

    if task.kind == "masked":
        return WithStates(folder / graph_files(task, precision)[0])
    names = [Path(name).name for name in graph_files(task, precision)]
    if task.kind == "sequence_to_sequence":
        # optimum asks for the decoder with a cache too: the merged one is both.
        files = {"encoder_file_name": names[0], "decoder_file_name": names[1], "decoder_with_past_file_name": names[1]}
    else:
        files = {"file_name": names[0]}
    with quiet():
        return getattr(optimum.onnxruntime, task.optimum_class).from_pretrained(folder, subfolder=FOLDER, **files)


@contextmanager
def quiet() -> Iterator[None]:
    """Exporter, tracer and quantizers say a lot that helps nobody here; what goes wrong is raised."""
    loggers = [logging.getLogger(name) for name in ("optimum", "transformers", "onnxruntime", "torch.onnx", "root")]
    loggers.append(logging.getLogger())
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
