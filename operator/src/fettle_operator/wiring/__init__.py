"""Where kopf meets the rest: the only package that imports it. Handlers parse, wake and return."""
