"""How the models that ship with the package are made: in the repository, not in the package."""
