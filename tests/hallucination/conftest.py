"""The reference checkpoints, mini, and a phantom with a plain finding on one side."""

from tests.helpers import close_figures, golden, mini, tiny_trace  # noqa: F401 (fixtures)
from tests.threads import one_thread  # noqa: F401 (a fixture)
