import {
  AutoModelForCausalLM, AutoTokenizer, InterruptableStoppingCriteria, TextStreamer, env,
} from './lib/transformers.min.js';

// Everything comes from this site: no other host is asked.
env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = new URL('./', location.href).pathname;
env.backends.onnx.wasm.wasmPaths = new URL('./lib/', location.href).href;
env.backends.onnx.wasm.proxy = true; // in a worker: the page stays awake, and its Stop button too

const element = (id) => document.getElementById(id);
const [status, progress, result, figures, write, stop] =
  ['status', 'progress', 'result', 'figures', 'write', 'stop'].map(element);
const stopping = new InterruptableStoppingCriteria();
let model, tokenizer;

/** What a visitor can put right. */
class Mistake extends Error {}

function fail(error) {
  console.error(error);
  status.classList.add('error');
  status.textContent = `This browser can't run the model: ${error.message ?? error}`;
  progress.hidden = true;
}

function showLoading({ status: stage, loaded, total }) {
  if (stage !== 'progress' || !total) return;
  progress.value = loaded / total;
  status.textContent = `Loading the model: ${(loaded / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`;
}

async function load() {
  const site = await (await fetch('site.json')).json();
  status.textContent = `Loading the model (${site.megabytes} MB, ${site.precision}) …`;
  tokenizer = await AutoTokenizer.from_pretrained('model');
  model = await AutoModelForCausalLM.from_pretrained('model', {
    dtype: 'fp32', // adds no suffix: the file is named in full
    model_file_name: site.file,
    use_external_data_format: { [`${site.file}.onnx`]: true },
    device: 'wasm',
    progress_callback: showLoading,
  });
  element('chat-choice').hidden = !site.chat;
  status.textContent = `Ready: ${site.model}, ${site.precision}, ${site.megabytes} MB`;
  progress.hidden = true;
  write.disabled = false;
}

/** Numbers outside an input's limits become the nearest limit. */
function number(id) {
  const input = element(id);
  const value = Math.min(Number(input.max), Math.max(Number(input.min), Number(input.value) || 0));
  input.value = value;
  return value;
}

/** The text as the model reads it, or why it can't be read. */
function prepare() {
  const text = element('prompt').value;
  if (!text.trim()) throw new Mistake('The text is empty. Write something first.');
  const chat = element('chat').checked;
  const prompt = chat
    ? tokenizer.apply_chat_template([{ role: 'user', content: text }], { tokenize: false, add_generation_prompt: true })
    : text;
  const inputs = tokenizer(prompt, { add_special_tokens: false });
  const room = (model.config.max_position_embeddings ?? model.config.n_positions ?? 2048) - inputs.input_ids.dims[1];
  if (room < 1) throw new Mistake('The text is longer than the model can read. Shorten it.');
  return { inputs, room, shown: chat ? '' : text };
}

async function generate({ inputs, room, shown }) {
  result.replaceChildren(Object.assign(document.createElement('span'), { className: 'prompt', textContent: shown }));
  figures.textContent = 'Reading the text …';
  stopping.reset();
  const begin = performance.now();
  let first, tokens = 0;
  const streamer = new TextStreamer(tokenizer, {
    skip_prompt: true,
    skip_special_tokens: true,
    callback_function: (piece) => result.append(piece),
    token_callback_function: () => {
      tokens += 1;
      first ??= performance.now();
      const rate = tokens > 1 ? ((tokens - 1) * 1000) / (performance.now() - first) : 0;
      figures.textContent =
        `first token ${(first - begin).toFixed(0)} ms · ${tokens} tokens · ${rate.toFixed(1)} tokens/s`;
    },
  });
  const temperature = number('temperature');
  await model.generate({
    ...inputs,
    max_new_tokens: Math.min(number('length'), room),
    do_sample: temperature > 0,
    temperature: temperature || 1,
    streamer,
    stopping_criteria: stopping,
  });
}

async function run() {
  write.disabled = true;
  stop.disabled = false;
  try {
    await generate(prepare());
  } catch (error) {
    if (error instanceof Mistake) figures.textContent = error.message;
    else fail(error);
  }
  write.disabled = false;
  stop.disabled = true;
}

write.addEventListener('click', run);
stop.addEventListener('click', () => stopping.interrupt());
load().catch(fail);
