"""What methods are called where people read, in one spelling: menus, titles, tables, captions.

Does not know: what the methods do; code calls them by their keys, e.g. "grad_cam".
"""

from __future__ import annotations

#: Key -> name, where the name is more than the key with spaces.
METHOD_NAMES = {
    "rollout": "attention rollout",
    "flow": "attention flow",
    "input_x_gradient": "input \u00d7 gradient",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients_patches": "integrated gradients (patches)",
    "grad_cam": "Grad-CAM",
    "kernel_shap": "kernel SHAP",
}


def method_name(key: str) -> str:
    """Return the name of a method for people; any other text loses its underscores."""
    return METHOD_NAMES.get(key, key.replace("_", " "))
