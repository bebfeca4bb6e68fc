"""The model server: many adapters on one base model behind an OpenAI-compatible API."""
