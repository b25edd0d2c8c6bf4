"""The trainable story: an ordinary text-to-SQL agent, its tasks, and a small model that really learns."""
