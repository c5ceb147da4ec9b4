"""One file per migration; the newest agrees with tables.py (tests compare them)."""
