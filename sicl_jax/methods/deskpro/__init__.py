"""DeskPro: clothes shielded by attention, faces taught by restored ones (arXiv 2208.12023)."""
