"""Phantoms projected from a public CT: real anatomy, with truth in three dimensions.

The scan is LIDC-IDRI-0001 (Armato et al., 2015, doi 10.7937/K9/TCIA.2015.LO9QL9SX, CC BY 3.0); see
`workbench/assets/ct/README.md`.
"""
