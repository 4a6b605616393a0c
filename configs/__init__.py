"""One file per experiment, each with `get_config()`: what it changes of its method's defaults."""
