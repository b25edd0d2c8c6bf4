"""The engine on transformers and peft: any causal language model, on a laptop or a GPU, sampling while it learns."""
