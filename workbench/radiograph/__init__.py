"""One radiograph in memory: pixels, input contract, and the fit to a model's square input."""

from workbench.radiograph.contract import InputContract, InputWarning
from workbench.radiograph.fit import FitGeometry, fit_geometry, fit_pixels
from workbench.radiograph.radiograph import Radiograph

__all__ = [
    "FitGeometry",
    "InputContract",
    "InputWarning",
    "Radiograph",
    "fit_geometry",
    "fit_pixels",
]
