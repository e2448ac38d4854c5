"""One static page that runs an exported GPT in the visitor's browser, by transformers.js and onnxruntime-web."""
