"""NLP tasks on one small shared GPT: writing, and the Transformer it is made of."""
