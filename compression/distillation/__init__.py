"""A small model learns from a large one: what to match (`losses`), on which text, and how the student begins."""
