"""What stands around any engine, ours or vLLM's: measuring, shadow copies, feedback. Pure ASGI, nothing buffered."""
