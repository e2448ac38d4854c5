"""The README.md of an exported folder."""

from collections.abc import Mapping

from compression.usage_examples import PLAIN_CAUSAL, in_javascript

_LICENCES = {"SmolLM2-135M-Instruct": "apache-2.0"}


_ELSEWHERE = """With optimum:

```python
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer

model = ORTModelForCausalLM.from_pretrained("THIS_FOLDER", subfolder="onnx", file_name="{first}")
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
ids = tokenizer("Once upon a time", return_tensors="pt", return_token_type_ids=False)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=40)[0]))
```

With onnxruntime-genai (the precision that `genai_config.json` names): `onnxruntime_genai.Model("THIS_FOLDER")`.

With onnxruntime alone:

```python
{plain}
```

{javascript}"""
_NOT_ELSEWHERE = """**Only this project loads this folder.** Its layers were pruned to sizes of their own, which
`config.json` lists under `layer_sizes`; transformers, optimum, onnxruntime-genai and transformers.js know one size for
all layers and refuse its model type."""


def model_card(facts: Mapping, uniform: bool = True) -> str:
    """Markdown with front matter, from the facts of report.json.

    Args:
        uniform: all layers have the same sizes, so that other loaders know the model too
    """
    licence = _LICENCES.get(facts["model"])
    rows = "\n".join(
        f"| `{name}` | {entry['description']} | `{entry['file']}` | {entry['size_mb']} | {_ratio(facts, name)} |"
        for name, entry in facts["precisions"].items()
    )
    source = ", ".join(f"{key}: {value}" for key, value in facts["source"].items())
    precision, entry = next(iter(facts["precisions"].items()))
    elsewhere = _ELSEWHERE.format(
        first=entry["file"].removeprefix("onnx/"),
        plain=PLAIN_CAUSAL.format(file=entry["file"]),
        javascript=in_javascript("text-generation", precision, True),
    )
    return f"""---
library_name: onnxruntime
{f"license: {licence}" if licence else "# license: that of the base model"}
base_model: {facts["source"].get("repository", facts["model"])}
pipeline_tag: text-generation
tags: [onnx, text-generation]
---

# {facts["model"]} on ONNX Runtime

Exported from the original weights ({source}) as graphs of onnxruntime's fused operators.

| precision | numbers | file | MB (10^6 bytes) | perplexity, times the original's |
| --- | --- | --- | ---: | ---: |
{rows}

The weights lie beside each graph in `<file>_data`. `report.json` lists every file with its SHA-256.

## Use

{elsewhere if uniform else _NOT_ELSEWHERE}

With this project: `python -m gpt_tasks generate --model THIS_FOLDER "Once upon a time"`
"""


def _ratio(facts: Mapping, precision: str) -> str:
    check = facts.get("checks", {}).get(precision)
    return "not checked" if check is None else f"{check['ratio']:.4f}"
