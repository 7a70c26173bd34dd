"""Training: the recipes that make and change models."""
