"""Entities, relations and events: spans of words that a small head finds in the backbone's hidden states."""
