"""Procedurally drawn chest phantoms with exactly known findings."""
