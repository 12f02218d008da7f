"""Normal or COVID-19 pneumonia, from a chest CT slice, a chest X-ray, or both.

Research software, not a medical device. Importing this package loads no TensorFlow and reads no
file; the public names are fetched when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from covid_mm.errors import CovidMMError

if TYPE_CHECKING:
    from covid_mm.serving.prediction import Prediction
    from covid_mm.serving.predictor import Predictor, load_predictor

__version__ = "0.1.0"
__all__ = ["CovidMMError", "Prediction", "Predictor", "__version__", "load_predictor"]

_HOMES = {
    "load_predictor": "covid_mm.serving.predictor",
    "Predictor": "covid_mm.serving.predictor",
    "Prediction": "covid_mm.serving.prediction",
}


def __getattr__(name: str) -> Any:
    """Fetch a public name from its room on first use (PEP 562)."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
