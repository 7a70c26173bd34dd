"""Training of `mini`, the small model that ships with the package.

`train.train_mini` runs every stage; `recipe.MiniRecipe` has every number; `variants` makes models
that lack one ingredient of the training.
"""
