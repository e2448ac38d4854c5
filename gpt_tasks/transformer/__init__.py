"""The Transformer from scratch in PyTorch, one concept a file.

Reading order: `config`, `norms`, `positions`, `masks`, `attention`, `feed_forward`, `block`,
`kv_cache`, `decoder`. Nothing here imports the rest of the project, and this file imports
nothing, so that `config` can be read where torch is not wanted (serving).
"""
