"""People in a corridor: an own data set, installed beside sicl_jax."""
