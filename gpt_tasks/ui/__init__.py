"""The Gradio page: one file a tab. Nothing outside `app.py` imports it."""
