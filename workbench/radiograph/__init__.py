"""One radiograph in memory: pixels, input contract, and the fit to a model's square input."""

from workbench.radiograph.contract import (
    WARNING_CODES,
    InputContract,
    InputWarning,
    domain_warning,
    frontal_layout,
    little_seen,
)
from workbench.radiograph.fit import PUBLISHED_SIZE, FitGeometry, fit_geometry, fit_pixels
from workbench.radiograph.radiograph import Radiograph, to_unit_range

__all__ = [
    "PUBLISHED_SIZE",
    "WARNING_CODES",
    "FitGeometry",
    "InputContract",
    "InputWarning",
    "Radiograph",
    "domain_warning",
    "fit_geometry",
    "fit_pixels",
    "frontal_layout",
    "little_seen",
    "to_unit_range",
]
