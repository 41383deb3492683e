"""Parts of ``generate_organic_gfn2.py``."""
