"""What the backbone is used for: one file a task, and the registry that lists them."""
