// Writes greedily with transformers.js from a local folder: node generate.mjs FOLDER < [{file, dtype, prompt, tokens}, ...]
import path from 'node:path';
import { readFileSync } from 'node:fs';
import { AutoModelForCausalLM, AutoTokenizer, env } from '@huggingface/transformers';

const folder = path.resolve(process.argv[2]);
env.localModelPath = path.dirname(folder);
env.allowRemoteModels = false;
const name = path.basename(folder);
const tokenizer = await AutoTokenizer.from_pretrained(name);
const results = [];
for (const { file, dtype, prompt, tokens } of JSON.parse(readFileSync(0))) {
  const model = await AutoModelForCausalLM.from_pretrained(name, {
    dtype, model_file_name: file, use_external_data_format: true,
  });
  const inputs = tokenizer(prompt);
  const written = await model.generate({ ...inputs, max_new_tokens: tokens, do_sample: false, repetition_penalty: 1 });
  results.push({
    prompt: Array.from(inputs.input_ids.data, Number),
    written: Array.from(written.data, Number).slice(inputs.input_ids.data.length),
  });
  await model.dispose();
}
console.log(JSON.stringify(results));
