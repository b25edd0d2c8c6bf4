"""The engine that samples on a vLLM server and learns in this process."""
