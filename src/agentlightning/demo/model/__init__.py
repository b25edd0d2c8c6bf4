"""A simulated language model: it follows the text it is sent, knows ordinary English, and nothing of the demo's shop.

`reply.answer` takes a chat-completions request and gives the answer. Nothing here imports the demo's agent or tasks.
"""
