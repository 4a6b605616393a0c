"""People drawn by code, with exact masks: bodies that stay, clothes that change."""
