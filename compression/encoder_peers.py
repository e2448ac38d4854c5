"""The engines that the classification benchmark measures, behind one interface, and the files that the peers need.

Ours takes the adapter as an argument of each call; transformers has it beside its weights (PEFT) or merged into them,
optimum's export merged. The peers' libraries are imported when they are opened.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from compression.peers import checkpoint_folder, size_mb
from gpt_tasks.backbone.adapter import ADAPTER_FILE
from gpt_tasks.backbone.encoder_engine import padded
from gpt_tasks.home import whole_folder

PEERS = ("transformers", "optimum")


class Encoder(Protocol):
    size_mb: float

    def encode(self, rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """One batch -> hidden states [rows, longest, hidden] and the mask [rows, longest] of 0 and 1"""


class Ours:
    """The encoding graph.

    Args:
        path: the artifact
        adapter: the task's folder
    """

    def __init__(self, precision: str, path: Path, adapter: Path, threads: int) -> None:
        from gpt_tasks.backbone.adapter import read_adapter
        from gpt_tasks.backbone.artifact import Artifact
        from gpt_tasks.backbone.encoder_engine import EncoderEngine

        artifact = Artifact(path)
        self._engine = EncoderEngine(artifact, precision, threads)
        self._adapter = read_adapter(adapter, artifact.hugging_face_config)
        self.size_mb = artifact.report["precisions"][precision]["size_mb"]

    def encode(self, rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        return self._engine.encode(rows, self._adapter)


class Transformers:
    """
    Args:
        precision: "fp32 PEFT" (the adapter beside the weights) or "fp32 merged"
        path: the checkpoint, or the merged one
    """

    def __init__(self, precision: str, path: Path, adapter: Path, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch = torch
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        if precision == "fp32 PEFT":
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).get_base_model()
        self._model = model.base_model.eval()
        self.size_mb = size_mb(path.glob("*.safetensors"))

    def encode(self, rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        ids, mask = padded(rows)
        with self._torch.inference_mode():
            out = self._model(self._torch.from_numpy(ids), attention_mask=self._torch.from_numpy(mask), use_cache=False)
        return out.last_hidden_state.numpy(), mask


class Optimum:
    """Optimum's own export for feature extraction, and its own dynamic int8 quantization."""

    def __init__(self, precision: str, path: Path, adapter: Path, threads: int) -> None:
        import onnxruntime
        from optimum.onnxruntime import ORTModelForFeatureExtraction

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._model = ORTModelForFeatureExtraction.from_pretrained(path, session_options=options)
        self.size_mb = size_mb(path.glob("*.onnx*"))

    def encode(self, rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        ids, mask = padded(rows)
        positions = np.ascontiguousarray(np.broadcast_to(np.arange(ids.shape[1]), ids.shape))
        out = self._model(input_ids=ids, attention_mask=mask, position_ids=positions)
        return out.last_hidden_state, mask


def open_encoder(engine: str, precision: str, path: str, adapter: str, threads: int) -> Encoder:
    kinds = {"ours": Ours, "transformers": Transformers, "optimum": Optimum}
    return kinds[engine](precision, Path(path), Path(adapter), threads)


def merged_checkpoint(model_name: str, adapter: Path) -> Path:
    """The model with the adapter added to its weights, as transformers saves it; made in the cache folder once."""
    checkpoint = checkpoint_folder(model_name)
    digest = hashlib.sha256((adapter / ADAPTER_FILE).read_bytes()).hexdigest()[:8]
    folder = checkpoint.with_name(checkpoint.name.replace("-checkpoint", f"-{digest}-merged"))
    if not folder.is_dir():
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(checkpoint), adapter).merge_and_unload()
        with whole_folder(folder) as part:
            model.save_pretrained(part)
    return folder


def optimum_int8(merged: Path) -> Path:
    """Optimum's export of a checkpoint, quantized by optimum; made in the cache folder once."""
    folder = merged.with_name(merged.name.replace("-merged", "-optimum-int8"))
    if not folder.is_dir():
        from optimum.exporters.onnx import main_export
        from optimum.onnxruntime import ORTQuantizer
        from optimum.onnxruntime.configuration import AutoQuantizationConfig

        with whole_folder(folder) as part:
            main_export(str(merged), part / "fp32", task="feature-extraction", do_validation=False)
            settings = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
            ORTQuantizer.from_pretrained(part / "fp32").quantize(save_dir=part, quantization_config=settings)
            shutil.rmtree(part / "fp32")
    return folder
