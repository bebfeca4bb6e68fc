"""The fault harness: a proxy that misbehaves on command, a witness that does not, and a stub that plays the nodes."""
