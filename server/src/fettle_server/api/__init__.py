"""The model server's HTTP side: OpenAI's paths, Azure ML's /score, probes, and the operator's port."""
