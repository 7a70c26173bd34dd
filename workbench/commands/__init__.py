"""The commands of `workbench`, one module each: `add_arguments(parser)` and `run(args) -> int`.

Modules here import what they run inside `run`, so that `workbench --help` costs nothing.
"""
