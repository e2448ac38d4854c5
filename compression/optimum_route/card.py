"""The README.md of a folder that was exported by optimum."""

from collections.abc import Mapping

from compression.optimum_route.tasks import TASKS, Kind
from compression.usage_examples import PLAIN_CAUSAL, in_javascript

_WRITE = """with torch.no_grad():
    written = model.generate(**inputs, max_new_tokens=40)
print(tokenizer.decode(written[0], skip_special_tokens=True))"""
_READ = """print(model(**inputs).{output}.shape)"""

_PLAIN: dict[Kind, str] = {
    "causal": PLAIN_CAUSAL,
    "sequence_to_sequence": """import numpy as np
import onnxruntime
from transformers import AutoConfig, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
encoder = onnxruntime.InferenceSession("THIS_FOLDER/{file}")
decoder = onnxruntime.InferenceSession("THIS_FOLDER/{decoder}")
read = dict(tokenizer("Once upon a time", return_tensors="np"))
read = {{i.name: read[i.name] for i in encoder.get_inputs()}}
states = encoder.run(None, read)[0]
feed = {{"encoder_hidden_states": states, "encoder_attention_mask": read["attention_mask"]}}
feed["use_cache_branch"] = np.array([False])  # the whole text in every step: short to write, slow for long ones
for i in decoder.get_inputs():
    if i.name.startswith("past_key_values"):
        feed[i.name] = np.zeros([1, i.shape[1], 1, i.shape[3]], np.float32)
ids = np.array([[AutoConfig.from_pretrained("THIS_FOLDER").decoder_start_token_id]])
for _ in range(20):
    logits = decoder.run(["logits"], {{**feed, "input_ids": ids}})[0]
    ids = np.concatenate([ids, logits[:, -1:].argmax(-1)], axis=1)
print(tokenizer.decode(ids[0]))""",
}
_PLAIN_ENCODER = """import numpy as np
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
session = onnxruntime.InferenceSession("THIS_FOLDER/{file}")
read = tokenizer("Once upon a time", return_tensors="np")
types = np.zeros_like(read["input_ids"])  # not every tokenizer gives token types, which are 0 for one text
[{output}] = session.run(["{output}"], {{i.name: read.get(i.name, types) for i in session.get_inputs()}})
print({output}.shape)"""


def card(facts: Mapping, config: Mapping, data_apart: bool) -> str:
    """Markdown with front matter, from the facts of report.json.

    Args:
        config: config.json
        data_apart: the weights lie in files beside the graphs
    """
    task = TASKS[facts["task"]]
    rows = "\n".join(
        f"| `{name}` | {entry['description']} | {', '.join(f'`{file}`' for file in entry['files'])} | "
        f"{entry['size_mb']} | {_loss(facts, name)} |"
        for name, entry in facts["precisions"].items()
    )
    source = ", ".join(f"{key}: {value}" for key, value in facts["source"].items())
    first = next(iter(facts["precisions"].values()))["files"]
    names = [name.removeprefix("onnx/") for name in first]
    files = f'file_name="{names[0]}"'
    if len(names) > 1:  # optimum asks for the third too, which the merged decoder is as well
        files = ", ".join(
            f'{part}_file_name="{name}"'
            for part, name in zip(("encoder", "decoder", "decoder_with_past"), (*names, names[-1]), strict=True)
        )
    output = "last_hidden_state" if task.kind == "features" else "logits"
    plain = _PLAIN.get(task.kind, _PLAIN_ENCODER).format(file=first[0], decoder=first[-1], output=output)
    # Some tokenizers give token types, which models that write don't take.
    no_types = ", return_token_type_ids=False" if task.cached else ""
    use = _WRITE if task.cached else _READ.format(output=output)
    return f"""---
library_name: onnxruntime
{f"license: {config['license']}" if isinstance(config.get("license"), str) else "# license: that of the base model"}
base_model: {facts["source"].get("repository", facts["model"])}
pipeline_tag: {task.name}
tags: [onnx, {config["model_type"]}]
---

# {facts["model"]} on ONNX Runtime

Exported for {task.name} from the original weights ({source}) by optimum's exporter, quantized by onnxruntime's tools.

| precision | numbers | files | MB (10^6 bytes) | quality lost |
| --- | --- | --- | ---: | ---: |
{rows}

What was compared, and what else was tried, is in `report.json`, which lists every file with its SHA-256.

## Use

With optimum:

```python
import torch
from optimum.onnxruntime import {task.optimum_class}
from transformers import AutoTokenizer

model = {task.optimum_class}.from_pretrained("THIS_FOLDER", subfolder="onnx", {files})
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
inputs = tokenizer("Once upon a time", return_tensors="pt"{no_types})
{use}
```

With onnxruntime alone:

```python
{plain}
```

{in_javascript(task.name, next(iter(facts["precisions"])), data_apart)}
"""


def _loss(facts: Mapping, precision: str) -> str:
    check = facts["checks"].get(precision)
    return "not checked" if check is None else f"{check['loss']:.4f}"
