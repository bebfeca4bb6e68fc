"""A table of objects, each with the verdict that it must meet: by the API server, and by the Python models."""

from spec_table.generated import generated_rows, leaves_of
from spec_table.handwritten import HANDWRITTEN
from spec_table.rows import Row
from spec_table.samples import FULL_SPECS, MINIMAL_SPECS

__all__ = ["FULL_SPECS", "HANDWRITTEN", "MINIMAL_SPECS", "Row", "generated_rows", "leaves_of"]
