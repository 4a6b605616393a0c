"""Two views of an image attract: an own method, installed beside sicl_jax."""
