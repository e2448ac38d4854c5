"""Teaches the backbone a task: what is trained (`methods`), on what (`objectives`), and how (`trainer`)."""
