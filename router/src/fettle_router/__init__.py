"""The router agent: turns the routing table into HAProxy configuration."""
