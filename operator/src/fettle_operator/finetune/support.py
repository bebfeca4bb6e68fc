"""What the API can say and this version cannot do: refused before anything begins. Pure."""

from fettle_operator.resources import Manifest

__all__ = ["unsupported"]

_EXPORTS = ("onnx", "gguf")


def unsupported(spec: Manifest) -> tuple[str, ...]:
    """Return a sentence for each wish that cannot be met."""
    output = spec.get("output") or {}
    exports = [name for name in output.get("exports") or () if name in _EXPORTS]
    problems = [
        f"spec.output.exports: {name} is not supported by this version; export adapter or merged"
        for name in exports
    ]
    if "push" in output:
        problems.append(
            "spec.output.push: is not supported by this version; remove it, the result stays in the store"
        )
    return tuple(problems)
