"""CCLNet: visible-infrared re-identification with CLIP, without labels (ACM MM 2023)."""
