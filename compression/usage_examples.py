"""How an exported folder is run elsewhere, for the README.md in it."""

PLAIN_CAUSAL = """import numpy as np
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
session = onnxruntime.InferenceSession("THIS_FOLDER/{file}")
sizes = {{i.name: [d if isinstance(d, int) else 0 for d in i.shape] for i in session.get_inputs()}}
cache = {{n: np.zeros([1, *size[1:]], np.float32) for n, size in sizes.items() if n.startswith("past_key_values")}}
ids = new = tokenizer("Once upon a time", return_tensors="np")["input_ids"]
for _ in range(20):
    count = ids.shape[1]
    feed = {{"input_ids": new, "attention_mask": np.ones((1, count), np.int64), **cache}}
    if "position_ids" in sizes:
        feed["position_ids"] = np.arange(count - new.shape[1], count)[None]
    logits, *present = session.run(None, feed)
    new = logits[:, -1:].argmax(-1)
    cache = dict(zip(cache, present))
    ids = np.concatenate([ids, new], axis=1)
print(tokenizer.decode(ids[0]))"""
"""Writes 20 tokens with onnxruntime alone; to be formatted with `file`"""
_DTYPES = {"int8_blocks": "q8", "int4": "q4"}
"""what transformers.js calls a precision, where that is another name"""
_WRITING = ("text-generation", "text2text-generation")


def in_javascript(task: str, precision: str, data_apart: bool) -> str:
    """
    Args:
        task: a pipeline of transformers.js
        data_apart: the weights lie in files beside the graphs
    """
    options = f"dtype: '{_DTYPES.get(precision, precision)}'" + (
        ", use_external_data_format: true" if data_apart else ""
    )
    text = "`Once upon a ${run.tokenizer.mask_token}`" if task == "fill-mask" else "'Once upon a time'"
    length = ", { max_new_tokens: 40 }" if task in _WRITING else ""
    return f"""With transformers.js (`dtype`: what the file's name ends in, `fp32` for none, `q8` for `quantized`):

```js
import {{ env, pipeline }} from '@huggingface/transformers';

env.localModelPath = 'THE_FOLDER_ABOVE_THIS_ONE';
env.allowRemoteModels = false;
const run = await pipeline('{task}', 'THIS_FOLDER', {{ {options} }});
console.log(await run({text}{length}));
```"""
