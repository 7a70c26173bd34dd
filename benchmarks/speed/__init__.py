"""Parts of `bench.py`: clocks, models, peers, sections, and the page."""
