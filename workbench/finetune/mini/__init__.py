"""Training of `mini`, the small model that ships with the package."""
