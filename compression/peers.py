"""The engines that the benchmark measures, behind one interface, and the files that the peers need.

Each engine's library is imported when the engine is opened, so that a process holds one of them only.
"""

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from gpt_tasks.errors import UserError
from gpt_tasks.home import whole_folder, writable_home

LLAMA_CPP_PRECISIONS = {
    "F16": "LLAMA_FTYPE_MOSTLY_F16",
    "Q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0",
    "Q4_1": None,
    "Q4_0": "LLAMA_FTYPE_MOSTLY_Q4_0",
}
"""Name -> llama.cpp's file type; None: the default model's file as it is."""
PEERS = ("transformers", "optimum", "llama.cpp")


class Engine(Protocol):
    vocabulary_size: int
    size_mb: float

    def start(self, ids: Sequence[int]) -> int:
        """Forgets everything, reads a prompt and returns the likeliest next token."""

    def step(self, token: int) -> int:
        """Reads one token more and returns the likeliest next one."""


def open_engine(engine: str, precision: str, path: str, threads: int) -> Engine:
    kinds = {"ours": _Ours, "transformers": _Transformers, "optimum": _Optimum, "llama.cpp": _LlamaCpp}
    return kinds[engine](precision, Path(path), threads)


class _Ours:
    def __init__(self, precision: str, path: Path, threads: int) -> None:
        from gpt_tasks.backbone.artifact import Artifact
        from gpt_tasks.backbone.ort_engine import OrtEngine

        artifact = Artifact(path)
        self._engine = OrtEngine(artifact, precision, threads)
        self.vocabulary_size = artifact.config.vocabulary_size
        self.size_mb = artifact.report["precisions"][precision]["size_mb"]

    def start(self, ids: Sequence[int]) -> int:
        self._cache = self._engine.new_cache()
        return int(self._engine.read(ids, self._cache)[0].argmax())

    def step(self, token: int) -> int:
        return int(self._engine.read([token], self._cache)[0].argmax())


class _Transformers:
    def __init__(self, precision: str, path: Path, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, precision)).eval()
        self.vocabulary_size = self._model.config.vocab_size
        bytes_a_weight = {"float32": 4, "bfloat16": 2}[precision]
        self.size_mb = size_mb(path.glob("*.safetensors")) * bytes_a_weight / 4

    def _read(self, ids: Sequence[int]) -> int:
        out = self._model(self._torch.tensor([ids]), past_key_values=self._past, use_cache=True, logits_to_keep=1)
        self._past = out.past_key_values
        return int(out.logits[0, -1].argmax())

    def start(self, ids: Sequence[int]) -> int:
        self._past = None
        return self._read(ids)

    def step(self, token: int) -> int:
        return self._read([token])


class _Optimum:
    """Optimum's own export. Its graph computes the logits of all positions and can't be told otherwise."""

    def __init__(self, precision: str, path: Path, threads: int) -> None:
        import onnxruntime
        import torch
        from optimum.onnxruntime import ORTModelForCausalLM

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._torch = torch
        self._model = ORTModelForCausalLM.from_pretrained(path, session_options=options)
        self.vocabulary_size = self._model.config.vocab_size
        self.size_mb = size_mb(path.glob("*.onnx*"))

    def _read(self, ids: Sequence[int]) -> int:
        self._length += len(ids)
        out = self._model(
            self._torch.tensor([list(ids)]),
            attention_mask=self._torch.ones(1, self._length, dtype=int),
            past_key_values=self._past,
            use_cache=True,
        )
        self._past = out.past_key_values
        return int(out.logits[0, -1].argmax())

    def start(self, ids: Sequence[int]) -> int:
        self._past, self._length = None, 0
        return self._read(ids)

    def step(self, token: int) -> int:
        return self._read([token])


class _LlamaCpp:
    def __init__(self, precision: str, path: Path, threads: int) -> None:
        import llama_cpp

        self._library = llama_cpp
        self._model = llama_cpp.Llama(
            str(path),
            n_ctx=1024,
            n_batch=512,
            n_ubatch=512,
            n_threads=threads,
            n_threads_batch=threads,
            logits_all=False,
            verbose=False,
        )
        self.vocabulary_size = self._model.n_vocab()
        self.size_mb = size_mb([path])

    def _read(self, ids: Sequence[int]) -> int:
        self._model.eval(ids)
        logits = self._library.llama_get_logits_ith(self._model.ctx, -1)
        return int(np.ctypeslib.as_array(logits, shape=(self.vocabulary_size,)).argmax())

    def start(self, ids: Sequence[int]) -> int:
        self._model.reset()
        return self._read(ids)

    def step(self, token: int) -> int:
        return self._read([token])


def checkpoint_folder(model_name: str) -> Path:
    """The model as transformers saves it (fp32 safetensors), made in the cache folder once.

    Raises:
        UserError: a model that can't be opened.
    """
    from gpt_tasks.backbone.weights import content_hash, open_model

    model = open_model(model_name)
    # Two models can have one name, and one folder two contents after another.
    folder = writable_home() / "bench" / f"{model.name}-{content_hash(model)[:8]}-checkpoint"
    if not folder.is_dir():
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        config = dict(model.hugging_face_config)
        reference = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
        state = {name: torch.tensor(tensor) for name, tensor in model.weights.checkpoint.items()}
        missing, _ = reference.load_state_dict(state, strict=False)
        if set(missing) - {"lm_head.weight"}:
            raise UserError(f"transformers finds no {missing[0]} in {model.name}.")
        reference.tie_weights()
        with whole_folder(folder) as part:
            reference.save_pretrained(part)
    return folder


def optimum_folder(model_name: str) -> Path:
    """Optimum's own export of the model in fp32, made in the cache folder once."""
    checkpoint = checkpoint_folder(model_name)
    folder = checkpoint.with_name(checkpoint.name.replace("-checkpoint", "-optimum"))
    if not folder.is_dir():
        from optimum.exporters.onnx import main_export

        with whole_folder(folder) as part:
            main_export(str(checkpoint), part, task="text-generation-with-past", do_validation=False)
    return folder


def gguf_file(precision: str) -> Path:
    """The default model's GGUF file, requantized by llama.cpp in the cache folder once.

    Raises:
        UserError: llama.cpp's Python package isn't installed, or refuses.
    """
    if importlib.util.find_spec("llama_cpp") is None:
        raise UserError("The peer llama.cpp needs its Python package: pip install -r requirements-bench.txt")
    from gpt_tasks.backbone.default_model import default_gguf

    source = default_gguf()
    if LLAMA_CPP_PRECISIONS[precision] is None:
        return source
    folder = writable_home() / "bench" / f"{source.stem}-{precision}"
    if not folder.is_dir():
        import ctypes

        import llama_cpp

        settings = llama_cpp.llama_model_quantize_default_params()
        settings.ftype = getattr(llama_cpp, LLAMA_CPP_PRECISIONS[precision])
        settings.allow_requantize = True
        with whole_folder(folder) as part:
            target = part / "model.gguf"
            if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(settings)) != 0:
                raise UserError(f"llama.cpp could not requantize {source} to {precision}.")
    return folder / "model.gguf"


def size_mb(files: Iterable[Path]) -> float:
    return sum(file.stat().st_size for file in files) / 10**6
