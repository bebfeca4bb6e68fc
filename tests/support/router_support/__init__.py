"""What the router's tests share: tables to start from, model-server stand-ins, and a real HAProxy on loopback."""
