"""Training of `mini`, the small model that ships with the package.

`train.train_mini` runs every stage; `recipe.MiniRecipe` holds every number.
"""
