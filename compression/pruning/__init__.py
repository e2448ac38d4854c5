"""Makes a model sparse, or its matrices fewer and smaller.

`masks`, `sparse_gpt`, `error_feedback` and `refit` are pure functions on a matrix, `unstructured` walks them through a
model: zeros, which save no time on a CPU's dense kernels. `depth`, `width` and `vocabulary` take whole parts out, which
does.
"""
