"""What each new token of a row may look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from fettle_server.engine.types import BaseRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fettle_server.engine.cache import Window

_KNOWN_LAYERS: Final = frozenset({"full_attention", "sliding_attention"})


@dataclass(frozen=True, slots=True)
class Attention:
    """How a model's layers attend, as far as masks depend on it."""

    kinds: tuple[str, ...] | None
    """The kinds of layers, by which the model picks its mask; None where all layers share one."""
    sliding_window: int | None
    is_eager: bool
    """Eager attention adds its mask to the scores; the fused kernels take a mask of yes and no."""

    @classmethod
    def of(cls, model: Any) -> Attention:
        """Read a model's configuration; raise BaseRefusedError for attention that masks do not describe."""
        config = model.config.get_text_config()
        listed = getattr(config, "layer_types", None)
        kinds = None if listed is None else tuple(sorted(set(listed)))
        if not set(kinds or ()) <= _KNOWN_LAYERS:
            unknown = ", ".join(sorted(set(kinds or ()) - _KNOWN_LAYERS))
            raise BaseRefusedError(
                f"The model has layers of the kind {unknown}; this engine serves full and sliding attention only. "
                "Serve it with vLLM."
            )
        window = getattr(config, "sliding_window", None)
        return cls(kinds, window, model.config._attn_implementation == "eager")  # noqa: SLF001 - no public way to ask

    def masks(self, window: Window, dtype: torch.dtype) -> torch.Tensor | Mapping[str, torch.Tensor]:
        """Return the mask, or one for each kind of layer, shaped [row, 1, new token, token of the cache]."""
        places = window.places[:, :, None]
        columns = torch.arange(window.width, device=places.device)
        full = columns <= places
        if self.kinds is None:
            return self._form(
                full if self.sliding_window is None else self._slid(full, columns, places), dtype
            )
        forms = {"full_attention": full}
        if "sliding_attention" in self.kinds:
            forms["sliding_attention"] = self._slid(full, columns, places)
        return {kind: self._form(forms[kind], dtype) for kind in self.kinds}

    def _slid(self, full: torch.Tensor, columns: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return full & (columns > places - (self.sliding_window or 0))

    def _form(self, allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        allowed = allowed[:, None]
        if not self.is_eager:
            return allowed
        return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
