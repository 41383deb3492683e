"""Parts of ``organic_report.py``."""
